"""report.md: the summary for a pull request or an issue. GitHub's table dialect; readable as plain text too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tunemerge.report import format as fmt
from tunemerge.report import view
from tunemerge.report.clean import clean_results
from tunemerge.results import ArmResult, Results

_ACTIVE = re.compile(r"([\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_]))")
_LEADING = re.compile(r"^(?=#+(\s|$)|[-+](\s|$)|[-=]{2,})")
_NUMBERED = re.compile(r"^(\d+)(?=[.)](\s|$))")


def md(text: str) -> str:
    """Text that means itself in Markdown: one line, nothing active, no HTML. Underscores inside words stay readable."""
    flat = " ".join(text.split())
    shown = _ACTIVE.sub(r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return _NUMBERED.sub(r"\1\\", _LEADING.sub(r"\\", shown))


def code(text: str) -> str:
    """Text in a code span; what would end the span or a table's cell is replaced by what looks like it."""
    return f"`{' '.join(text.replace('`', 'ʼ').replace('|', '¦').split()) or fmt.NONE}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table of ready cells, padded so that the source aligns; columns in `numbers` are right-aligned."""
    right = set(numbers)
    body = [list(row) for row in rows]
    widths = [max(3, len(h), *(len(r[i]) for r in body)) if body else max(3, len(h)) for i, h in enumerate(head)]
    widths = [min(w, 60) for w in widths]

    def show(cells: Sequence[str]) -> str:
        return (
            "| "
            + " | ".join(
                c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            )
            + " |"
        )

    rule = "| " + " | ".join("-" * (w - 1) + (":" if i in right else "-") for i, w in enumerate(widths)) + " |"
    return "\n".join([show(head), rule, *map(show, body)])


def arm_cell(arm: ArmResult) -> str:
    marks = view.marks(arm)
    return md(arm.name) + (f" ({md('; '.join(marks))})" if marks else "")


def leaderboard_table(results: Results) -> str:
    metric = results.metric
    rows = [
        (arm_cell(a), view.ROLES[a.role].lower(), fmt.score(a.test.value, metric), fmt.interval(a.test, metric),
         fmt.score(a.validation, metric), fmt.count(a.marginal.examples),
         fmt.flops(fmt.all_flops(a.marginal)), fmt.seconds(a.marginal.seconds))
        for a in results.arms
    ]  # fmt: skip
    if today := results.incumbent:
        score, interval = fmt.score(today.test.value, metric), fmt.interval(today.test, metric)
        rows.append(
            (md(today.name), "what runs today", score, interval, fmt.NONE, fmt.UNKNOWN, fmt.UNKNOWN, fmt.UNKNOWN)
        )
    head = ("Arm", "Kind", "Test", f"{100 * results.level:g}% interval", "Validation", "Examples", "Compute", "Time")
    if view.stayed_out(results):
        metric = results.metric
        beside = [f"{fmt.score(o.value, metric)} {fmt.interval(o, metric)}" if (o := a.stayed_out) else fmt.NONE
                  for a in results.arms]  # fmt: skip
        return table((*head, view.STAYED_OUT), [(*row, o) for row, o in zip(rows, beside, strict=True)], range(2, 9))
    return table(head, rows, range(2, 8))


def contrast_table(results: Results) -> str:
    metric = results.metric
    rows = [
        (f"{md(c.a)} − {md(c.b)}", fmt.difference(c.difference.value, metric), fmt.interval(c.difference, metric),
         fmt.probability(c.p_holm), md(view.standing(c)), fmt.size(c.smallest_detectable, metric), view.to_settle(c))
        for c in results.contrasts
    ]  # fmt: skip
    unit = " (points)" if fmt.is_percent(metric) else ""
    head = (
        f"Contrast{unit}",
        "Difference",
        f"{100 * results.level:g}% interval",
        "Holm p",
        "Verdict",
        "Detectable",
        f"{'Repetitions' if view.folded(results) else 'Seeds'} to settle",
    )
    return table(head, rows, (1, 2, 3, 5, 6))


def beside_lines(results: Results) -> list[str]:
    """The arm handed back against what runs today, and against the best simple model."""
    return [
        f"{heading}: {md(c.a)} minus {md(c.b)} is {fmt.contrast(c.difference, results.metric)}, "
        f"p {fmt.probability(c.p)}: {md(view.standing(c))}."
        for heading, c in view.beside(results)
    ]


def flip_lines(results: Results) -> list[str]:
    """Gains and losses of each told pair, and the rows that tell most."""
    out = []
    for f in results.flipped:
        rows = [
            (md(t), fmt.plain(c.gains, 1), fmt.plain(c.losses, 1), fmt.signed(c.gains - c.losses), fmt.count(c.rows))
            for t, c in f.tasks.items()
        ]
        out.append(f"{md(f.a)} against {md(f.b)}, a mean over seeds:")
        out.append(table(("Task", "Gains", "Losses", "Net", "Of rows"), rows, range(1, 5)))
        told = [("gained", e, e.gained) for e in f.gained] + [("lost", e, e.lost) for e in f.lost]
        lines = (
            f"- {what} in {times} of {e.seeds}: {md(e.task)} row {e.row}, {md(e.target)}. {md(e.text or '')}".rstrip()
            for what, e, times in told
        )
        out += ["\n".join(lines)] if told else []
    return out


def _scored(results: Results) -> list[str]:
    """Tasks that some arm was tested on: a source of the pool is none."""
    return [t.name for t in results.tasks if any(t.name in a.tasks for a in results.arms)]


def _task_table(results: Results) -> str:
    names = _scored(results)
    rows = [
        [md(a.name), *(fmt.score(a.tasks[n].score.value, results.metric) if n in a.tasks else fmt.NONE for n in names)]
        for a in results.arms
    ]
    return table(["Arm", *map(md, names)], rows, range(1, len(names) + 1))


def _row_lines(r: Results) -> list[str]:
    """How the rows were split, and how many rows and units there are in the first run."""
    lines = [f"- Split: {md(words)}."] if (words := view.split_words(r)) else []
    for t in r.tasks:
        rows = ", ".join(view.rows_of(t))
        lines.append(f"- {md(t.name)}: {md(rows)}.")
    return lines


def _cost_lines(r: Results) -> list[str]:
    unknown = [a.name for a in r.arms if a.total is None]
    lines = [
        f"- Matched budget: {fmt.count(r.budget.examples)} training examples an arm and {view.run_word(r)}, "
        f"{r.budget.steps} steps of {r.budget.batch_size}{view.times(r)}.",
        f"- The study: {fmt.plural(len(r.steps), 'step')}, {fmt.flops(fmt.all_flops(r.study_cost))}, "
        f"{fmt.seconds(r.study_cost.seconds)}; {fmt.plural(r.failed_attempts, 'failed or interrupted attempt')} apart.",
    ]
    if unknown:
        lines.append(f"- Total cost unknown (pool made elsewhere): {', '.join(map(md, unknown))}.")
    return lines


def render_markdown(results: Results) -> str:
    """The summary. Same results, same text."""
    r = view.ordered(clean_results(results))
    parts = [f"# {md(r.name)}: {md(r.verdict.sentence)}", f"**{view.KINDS[r.verdict.kind]}.** {view.baseline(r)}."]
    parts.append("\n".join(f"- {md(d)}" for d in r.verdict.details))
    run = view.run_name(r, r.verdict.handed_back_seed)
    seed = f", {run}" if run else ""
    reason = md(fmt.sentence(r.verdict.handed_back_reason))
    parts.append(f"**Handed back:** {md(r.verdict.handed_back or 'nothing')}{seed}. {reason}")
    parts += [f"> {md(note)}" for note in view.notes(r)]
    name = f"{md(fmt.metric_name(r.metric))}, {'higher' if r.higher_is_better else 'lower'} is better"
    lead = f"Test {name}; costs are marginal, a mean over {view.run_word(r)}s. {view.TIME_WORDS}"
    if view.folded(r):
        lead += f" {view.FOLD_WORDS}"
    if view.has_ceilings(r):
        lead += f" {view.CEILING_WORDS}"
    parts += [f"## Leaderboard\n\n{lead}", leaderboard_table(r)]
    if r.contrasts:
        parts += ["## Contrasts", contrast_table(r), view.contrast_words(r)]
    parts += beside_lines(r)
    if r.flipped:
        parts += ["## Flips", *flip_lines(r)]
    if len(_scored(r)) > 1:  # of one task the leaderboard has all
        parts += ["## Tasks", _task_table(r)]
    if view.split_words(r) or any(t.unit for t in r.tasks):
        parts += ["## Rows", "\n".join(_row_lines(r))]
    parts += ["## Cost", "\n".join(_cost_lines(r))]
    found = view.findings(r)
    if found:
        parts += [
            "## Findings",
            "\n".join(
                f"- {f.severity} {code(f.code)} {md(f.where)}: {md(f.message.rstrip('.'))}"
                f"{': ' * bool(f.remedy)}{md(f.remedy)}"
                for f in found
            ),
        ]
    if r.unavailable:
        parts += ["## Not run, and why", "\n".join(f"- {md(u.name)}: {md(u.reason)}" for u in r.unavailable)]
    parts.append(f"Made by tunemerge {md(r.tunemerge)} from results.json of {md(r.finished)}.")
    return "\n\n".join(p for p in parts if p) + "\n"
