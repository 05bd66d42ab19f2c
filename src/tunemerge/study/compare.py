"""Two finished runs side by side: the same test rows? then paired differences of their arms, over common seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError, error, warning
from tunemerge.registry import listed
from tunemerge.results import ArmResult, Interval, Results
from tunemerge.stats.components import contrast
from tunemerge.stats.folds import Folds
from tunemerge.stats.metrics import METRICS
from tunemerge.stats.predictions import Predictions
from tunemerge.study.run_folder import STUDY_FILE, read_results
from tunemerge.yamlfile import parse_yaml

PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True)
class Pair:
    """An arm of the first run (or None) and one of the second. `difference` is the second minus the first in test
    score, oriented so that positive is better, paired over units and `seeds`; None where it can't be had. `p` is not
    adjusted for the number of pairs."""

    arm: str
    other: str
    first: float | None
    second: float | None
    difference: Interval | None
    p: float | None


@dataclass(frozen=True)
class Comparison:
    """`seeds`: those of both runs, over which differences are paired. `settings`: top-level keys of the study files
    that differ, with both values."""

    first: str
    second: str
    metric: str
    higher_is_better: bool
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    pairs: tuple[Pair, ...]
    handed_back: Pair | None
    settings: dict[str, tuple[Any, Any]]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Run:
    results: Results
    folder: Path

    @property
    def tasks(self) -> list[str]:
        return [t.name for t in self.results.tasks if t.role in ("task", "target")]

    @cached_property
    def table(self) -> pd.DataFrame:
        file = self.folder / PREDICTIONS_FILE
        if not file.exists():
            raise UsageError(f"{file}: no such file: run the study again, it writes its predictions")
        table = pd.read_parquet(file)
        return table[table["split"] == ("held_out" if self.folds else "test")]

    @property
    def folds(self) -> Folds | None:
        splits = self.results.splits
        return Folds(splits.folds, splits.overlap or 0.0) if splits and splits.folds else None

    def predictions(self, arm: str, task: str, seed: int) -> Predictions:
        t = self.table
        rows = t[(t["arm"] == arm) & (t["task"] == task) & (t["seed"] == seed)]
        outputs = [c for c in rows if str(c).startswith(("logit_", "output_"))]
        logits = rows[outputs].dropna(axis=1, how="all").to_numpy()
        return Predictions(rows["unit"].to_numpy(), rows["target"].to_numpy(), logits, rows["weight"].to_numpy())


def compare_runs(first: Path, second: Path) -> Comparison:
    """Raises FindingsError with every reason for which the two can't be compared."""
    a, b = (_Run(read_results(run), run if run.is_dir() else run.parent) for run in (first, second))
    faults = list(_faults(a, b))
    if faults:
        raise FindingsError(faults)
    seeds = tuple(seed for seed in a.results.seeds if seed in b.results.seeds)
    found = list(_worth_knowing(a, b, seeds))
    names = {arm.name: arm for arm in b.results.arms}
    both = [(arm, names[arm.name]) for arm in a.results.arms if arm.name in names]
    alone = {arm.name for arm in a.results.arms} ^ set(names)
    pairs = [_pair(a, b, arm, other, seeds, found) for arm, other in both]
    pairs += [Pair(x.name, "", x.test.value, None, None, None) for x in a.results.arms if x.name in alone]
    pairs += [Pair("", y.name, None, y.test.value, None, None) for y in b.results.arms if y.name in alone]
    handed = [next((x for x in run.results.arms if x.handed_back), None) for run in (a, b)]
    best = _pair(a, b, handed[0], handed[1], seeds, found) if handed[0] and handed[1] else None
    return Comparison(
        first=str(first),
        second=str(second),
        metric=a.results.metric,
        higher_is_better=a.results.higher_is_better,
        tasks=tuple(a.tasks),
        seeds=seeds,
        pairs=tuple(pairs),
        handed_back=best,
        settings=_settings(a.folder / STUDY_FILE, b.folder / STUDY_FILE),
        findings=tuple(dict.fromkeys(found)),
    )


def _faults(a: _Run, b: _Run) -> Iterator[Finding]:
    where = f"{a.folder}, {b.folder}"
    if a.results.metric != b.results.metric:
        text = f"one is decided by {a.results.metric}, the other by {b.results.metric}"
        yield error("not-comparable", text, where, "run one of them again with --set metric=...")
    if set(a.tasks) != set(b.tasks):
        text = f"the tasks that count differ: {listed(a.tasks)}; {listed(b.tasks)}"
        yield error("not-comparable", text, where, "compare runs of the same tasks and target")
        return
    if a.folds != b.folds:
        text = f"the folds differ: {a.folds or 'none'}; {b.folds or 'none'}"
        yield error("not-comparable", text, where, "compare runs with the same `splits`")
        return
    labels = [{t.name: t.labels for t in run.results.tasks} for run in (a, b)]
    for task in a.tasks:
        if labels[0][task] != labels[1][task]:
            text = f"{task}: the labels differ: {listed(labels[0][task])}; {listed(labels[1][task])}"
            yield error("not-comparable", text, where, "name the raw labels alike in both studies")
        elif reason := _other_rows(a, b, task):
            text = f"{task}: the test rows differ: {reason}"
            yield error("not-comparable", text, where, "compare runs whose test splits are drawn from the same table")


def _other_rows(a: _Run, b: _Run, task: str) -> str:
    """In what the test rows of a task differ; empty where they are the same, in the same order."""
    seed = next((s for s in a.results.seeds if s in b.results.seeds), None)
    one, two = (
        run.predictions(run.results.arms[0].name, task, run.results.seeds[0] if seed is None else seed)
        for run in (a, b)
    )
    if len(one.unit) != len(two.unit):
        return f"{len(one.unit)} and {len(two.unit)} rows"
    for name in ("unit", "target", "weight"):
        differ = np.flatnonzero(getattr(one, name) != getattr(two, name))
        if len(differ):
            return f"{len(differ)} of {len(one.unit)} have another {name}"
    return ""


def _worth_knowing(a: _Run, b: _Run, seeds: Sequence[int]) -> Iterator[Finding]:
    if not seeds:
        text = f"no seed in common ({listed(a.results.seeds)}; {listed(b.results.seeds)}): no paired differences"
        yield warning("no-common-seed", text, remedy="run one of them again with the other's seeds: --set seeds=[...]")
    elif set(a.results.seeds) != set(b.results.seeds):
        yield warning("few-common-seeds", f"differences are over the common seeds alone: {listed(seeds)}")


def _pair(a: _Run, b: _Run, arm: ArmResult, other: ArmResult, seeds: Sequence[int], found: list[Finding]) -> Pair:
    difference, p = None, None
    if seeds:
        one, two = (
            {task: [run.predictions(name, task, seed) for seed in seeds] for task in a.tasks}
            for run, name in ((a, arm.name), (b, other.name))
        )
        try:
            c = contrast(two, one, METRICS[a.results.metric], a.folds)
        except UsageError as problem:
            found.append(warning("no-difference", f"no paired difference of {arm.name} and {other.name}: {problem}"))
        else:
            difference, p = Interval(value=c.difference, low=c.low, high=c.high), c.p
    return Pair(arm.name, other.name, arm.test.value, other.test.value, difference, p)


def _settings(one: Path, two: Path) -> dict[str, tuple[Any, Any]]:
    first, second = (parse_yaml(f.read_text("utf-8"), str(f))[0] if f.exists() else {} for f in (one, two))
    keys = [key for key in {**first, **second} if key != "name"]
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}
