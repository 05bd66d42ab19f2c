"""`tunemerge init`: propose a study file, asking in a terminal for what nothing says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tunemerge.cli.bar import print_findings
from tunemerge.cli.output import answer, as_dicts, as_json, screen
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError
from tunemerge.propose.columns import NONE
from tunemerge.propose.proposal import Proposal, propose
from tunemerge.propose.questions import Answers, Question, unanswered
from tunemerge.propose.study import make_study
from tunemerge.propose.tables import Source, find_sources
from tunemerge.registry import nearest
from tunemerge.store.atomic import write_file


def start(data: list[Path], answers: Answers, out: Path, force: bool) -> None:
    """Write the study file. Raises FindingsError, with nothing written, with all that is wrong or was not said."""
    if out.exists() and not force:
        raise UsageError(f"{out}: there already; another name: --out FILE, to replace it: --force; nothing was written")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"{out}: no such folder: {out.parent}; nothing was written")
    console = screen()
    proposal = _settled(find_sources(data), answers, console)
    console.print("planning: how much fits into the minutes ...", style="dim", highlight=False)
    made = make_study(proposal, answers.minutes, out)
    write_file(out, made.text.encode())
    print_findings(_first_of_each(made.findings), console)
    for text in proposal.notes:
        console.print(f"note: {text}", style="yellow", **_PLAIN)  # type: ignore[arg-type]
    for task in proposal.tasks:
        what = f"{len(task.names)} labels" if task.raw else "a number" if task.keys is None else task.kind
        console.print(f"{task.name}: {task.rows:,} rows, {task.text} -> {task.target} ({what})", **_PLAIN)  # type: ignore[arg-type]
    console.print(f"{out}\n\nLook at it, then: tunemerge run {out}", **_PLAIN)  # type: ignore[arg-type]
    answer(
        file=out,
        tasks=[
            {"name": t.name, "kind": t.kind, "text": t.text, "target": t.target, "rows": t.rows, "labels": t.names}
            for t in proposal.tasks
        ],
        seconds=made.seconds,
        findings=as_dicts(made.findings),
    )


def _first_of_each(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One warning of each code, which counts the others like it."""
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == "warning":
            by_code.setdefault(finding.code, []).append(finding)
    for first, *others in by_code.values():
        more = f" (and {len(others)} more like this: `tunemerge check` shows them)" if others else ""
        yield replace(first, message=first.message + more)


_PLAIN = {"highlight": False, "markup": False, "soft_wrap": True}


def _settled(sources: list[Source], answers: Answers, console: Console) -> Proposal:
    """The proposal once nothing is open. An answer may raise a new question, so it is asked until there is none; an
    answer that turns out wrong is asked again."""
    talks = sys.stdin.isatty() and console.is_terminal and not as_json()
    asked: set[str] = set()
    before: tuple[Answers, Question] | None = None
    while True:
        proposal, questions, found = propose(sources, answers)
        if found and before is None:
            raise FindingsError([*found, *([] if talks else unanswered(questions))])
        if found and before is not None:
            print_findings(found, console)
            answers, left = before[0], [before[1]]
        else:
            left = [q for q in questions if q.needed or (talks and q.key not in asked)]
        if not left:
            return proposal
        if not talks:
            raise FindingsError(unanswered(left))
        asked.add(left[0].key)
        before = (answers, left[0])
        answers = _ask(left[0], answers, console)


def _ask(question: Question, answers: Answers, console: Console) -> Answers:
    """The answers with one more from the terminal, which is asked for again until it can be one."""
    console.print(question.text, style="bold", markup=False, highlight=False)
    width = max((len(c) for c in question.choices), default=0)
    for choice in question.choices:
        console.print(f"  {choice:<{width}}  {question.hints.get(choice, '')}".rstrip(), **_PLAIN)  # type: ignore[arg-type]
    while True:
        default = f" [{question.default}]" if question.default else ""
        said = console.input(f"{question.flag}{default}: ".replace("[", r"\[")).strip() or question.default
        try:
            if said and _fits(question, said):
                return _said(answers, question.key, said)
            known = nearest(said, list(question.choices)) if said and question.choices else ""
            console.print(f"  not one of these{known}" if said else "  please say one", style="yellow", markup=False)
        except UsageError as e:
            console.print(f"  {e}", style="yellow", markup=False)


def _fits(question: Question, said: str) -> bool:
    """Whether it is one of the choices, or, of lists of tasks, a part of one."""
    if question.key == "only":
        return any(set(_names(said)) <= set(_names(choice)) for choice in question.choices)
    return not question.choices or said in question.choices


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _said(answers: Answers, key: str, said: str) -> Answers:
    if key == "labels":
        return replace(answers, labels={} if said == NONE else pairs(said))
    if key == "only":
        return replace(answers, only=_names(said))
    if key == "models":
        path = said.partition("=")[2]
        own = (path, *(m for m in answers.models if m.partition("=")[2] == path))
        return replace(answers, models=tuple(said if m in own else m for m in answers.models))
    return replace(answers, **{key: said})  # type: ignore[arg-type]


def pairs(text: str) -> dict[str, str]:
    """RAW=NAME,RAW=NAME. Raises UsageError."""
    out = {}
    for part in text.split(","):
        raw, equals, name = part.partition("=")
        if not equals or not raw.strip() or not name.strip():
            raise UsageError(f"--labels {text}: {part.strip()!r} is not RAW=NAME, for example 0=negative,1=positive")
        out[raw.strip()] = name.strip()
    return out
