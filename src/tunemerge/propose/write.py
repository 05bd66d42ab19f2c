"""A proposal as the text of a study file: every key that was inferred says from what."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tunemerge.propose.proposal import MADE, Proposal, is_built
from tunemerge.propose.size import LEAN, Size
from tunemerge.propose.tasks import CLASSES, TABLES, TARGET_KEY, Draft
from tunemerge.stats.metrics import BOTH
from tunemerge.tasks.task import TASKS, is_classes


def study_text(proposal: Proposal, size: Size, name: str, out: Path, time: str) -> str:
    """The file that is to lie at `out`. `time`: what the run will take, in words."""
    return "\n".join(_lines(proposal, size, name, out, time)) + "\n"


def _lines(p: Proposal, size: Size, name: str, out: Path, time: str) -> Iterator[str]:
    yield "# Proposed by `tunemerge init`. What was inferred says so: change it where it is wrong."
    yield f"# Then: tunemerge check {out.name}, tunemerge plan {out.name}, tunemerge run {out.name}"
    yield "# Every key is explained in docs/study.md."
    yield from (f"# {note}" for note in p.notes)
    yield f"name: {_flow(name)}  # results go to runs/{name}"
    if p.base:
        yield f"base: {_base(p.base, out)}"
    if p.pool:
        yield ""
        yield "pool:  # both orders start from these"
        for called, (model, why) in p.pool.items():
            yield f"  {_flow(called)}: {_flow(_model(model.path, out))}  # matched by {why}"
    yield ""
    yield "tasks:"
    for task in p.tasks:
        yield from _task(task, size, out)
    if p.target:
        yield f"target: {_flow(p.target)}  # {p.why['target']}; without it all tasks count"
    if p.date:
        yield f"splits: {{by: time, column: {_flow(p.date)}, validation: 0.1, test: 0.2{_source(p)}}}  # as you said"
    yield ""
    if size.lean:
        yield f"strategies: [{', '.join(LEAN)}]  # without this line: all"
    yield f"methods: [{'linear' if size.lean else 'linear, ties'}]  # `tunemerge list methods` has more"
    yield "choose_method: before_tuning  # merge_then_tune merges with each, and tunes the best by validation"
    yield "candidates: 3  # coefficients tried on validation in every merge"
    yield f"budget: {{examples: {size.budget}}}  # tuning of every arm; {time}"
    if size.pool_budget:
        yield f"pool_budget: {_flow(dict(size.pool_budget))}  # of each pool model, made once a seed, on source rows"
    yield f"seeds: {size.seeds}  # under 5 no win is claimed"
    if any(t.kind in TABLES.values() for t in p.tasks):
        yield "tuning: {learning_rate: 1e-3}  # what suits small networks that learn from the start"
    if all(TASKS[t.kind].metric == "accuracy" for t in p.tasks):
        yield "metric: accuracy  # `tunemerge list metrics`: macro_f1 where labels are of unequal size"
        yield "margin: 0.01  # differences inside +-margin don't matter in practice"
    else:
        metrics = list(dict.fromkeys(TASKS[t.kind].metric for t in p.tasks))
        yield f"metric: {metrics[0] if len(metrics) == 1 else BOTH}  # `tunemerge list metrics`"
        yield "margin: 0.02  # differences inside +-margin don't matter in practice"


def _base(base: str, out: Path) -> str:
    if base == MADE:
        return "{" + MADE + "}"
    if not is_built(base):
        return _flow(_model(base, out))
    file, _, function = base.rpartition(":")
    return _flow({"build": f"{_path(Path(file), out)}:{function}"}) + "  # every seed draws its weights"


def _source(p: Proposal) -> str:
    return "" if p.pool else ", source: 0.4"


def _task(task: Draft, size: Size, out: Path) -> Iterator[str]:
    yield f"  {_flow(task.name)}:"
    for key, value, why in _keys(task, size, out):
        yield f"    {key}: {_flow(value)}" + (f"  # {why}" if why else "")


def _keys(task: Draft, size: Size, out: Path) -> Iterator[tuple[str, Any, str]]:
    why = task.why
    if task.kind != CLASSES:
        yield "kind", task.kind, why["kind"]
    if task.given:
        yield from _given(task, size, out)
    else:
        yield "data", _path(task.files["data"], out), f"{task.rows:,} rows" + (" with these values" * bool(task.where))
    if task.where:
        yield "where", task.where, "a task for every value: " + why["task_by"].removeprefix("inferred: ")
    if task.keys is None:
        yield "text", task.text, why["text"]
        yield TARGET_KEY.get(task.kind, "label"), task.target, why["label"]
        if task.kind == "text-regression":
            yield "quantity", task.target, "what it is; tasks that share a quantity share a head"
    else:
        if task.kind in TABLES.values():
            yield ("label" if task.raw else "value"), task.target, why["label"]
        notes = {"numeric": "inferred; codes among them are best moved to `categorical`", "ignore": "numbers of rows"}
        yield from ((key, value, notes.get(key, "")) for key, value in task.keys.items())
    if task.labels:
        yield "labels", task.labels, why["labels"]
    elif is_classes(task.kind) and task.raw and all(value.lstrip("-").isdecimal() for value in task.raw):
        yield (
            "labels",
            {value: value for value in task.raw},
            "raw value: name. Numbers say little in a report: name them",
        )
    if task.unit:
        yield "unit", task.unit, why["unit"]
    if task.weight:
        yield "weight", task.weight, why["weight"]
    if size.splits.get(task.name):
        yield "splits", size.splits[task.name], "rows; the test rows are the same for all seeds"


def _given(task: Draft, size: Size, out: Path) -> Iterator[tuple[str, Any, str]]:
    files = {k: _path(v, out) for k, v in task.files.items()}
    both = "train" in files
    if both:
        train = files.pop("train")
        files.setdefault("adapt", train)
        if size.pool_budget:
            files.setdefault("source", train)
    same = both and files.get("source") == files["adapt"]
    why = "inferred from their names"
    if same:
        why += "; the pool is made on the rows that are adapted to: with two files, name another for `source`"
    order = ("source", "adapt", "validation", "test")
    yield "files", {k: files[k] for k in order if k in files}, why


def _path(file: Path, out: Path) -> str:
    """Relative to the study file where both lie under one folder of the person's; else as a whole."""
    if file.is_absolute() and not file.is_relative_to(out.resolve().parent):
        return str(file)
    return Path(os.path.relpath(file.resolve(), out.resolve().parent)).as_posix()


def _model(model: str, out: Path) -> str:
    path = Path(model).expanduser()
    return model if model.startswith("package:") or not path.exists() else _path(path, out)


def _flow(value: Any) -> str:
    """A value on one line, quoted where YAML would read it as something else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9).strip()
    text = text.removesuffix("...").strip()
    return json.dumps(value, ensure_ascii=False) if "\n" in text or any(c in value for c in ",[]{}#") else text
