"""Scores and differences of arms with intervals that cover both training seeds and test units.

Scores are oriented so that higher is better: metrics of which less is better (log loss, calibration error) are negated,
in estimates and in differences alike. Runs that share a test set go through `twoway`, applied to the pseudo-values of
`pseudo`; runs that are folds, each tested on the rows that it held out, through `folds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunemerge.errors import UsageError
from tunemerge.stats.folds import Folds, fold_scores, repetitions_to_settle, resampled
from tunemerge.stats.metrics import Metric
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.pseudo import pseudo_values
from tunemerge.stats.twoway import TwoWay, seeds_to_settle, smallest_detectable, two_way

Arm = Mapping[str, Sequence[Predictions]]
Floats = NDArray[np.float64]

# Under so many seeds no win is claimed (`verdict`), so a promise of what would settle it starts here.
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Estimate:
    """An arm's score, mean over tasks and seeds, with its 95% interval (cut at the metric's bounds).

    `by_seed` are means over tasks; of folds a value each. With one seed the interval covers the test units alone:
    `covers_seeds` is False.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    df: float
    covers_seeds: bool


@dataclass(frozen=True)
class Contrast:
    """The score of arm a minus that of arm b, paired over seeds and units.

    `low`, `high`: 95% interval; `low90`, `high90`: 90% (for two one-sided tests at 5%). `p`: two-sided.
    `probability_a_better`: the confidence that a is better, from the same t distribution as the interval: it reaches
    97.5% exactly where the 95% interval leaves 0 out. `smallest_detectable`: the difference that this many seeds and
    units would find with 80% power at 5%. `seeds_to_settle`: how many seeds would bring the half-width under
    |difference|, were it to stay as it is; None when no number would, since the test units' share stays.
    `covers_seeds` is False with one seed: the intervals then cover the test units alone. `folds`: how many, where
    the runs are folds; `by_seed` then has a value a run, and `seeds_to_settle` counts repetitions of all folds.
    """

    difference: float
    low: float
    high: float
    low90: float
    high90: float
    p: float
    df: float
    by_seed: tuple[float, ...]
    probability_a_better: float
    smallest_detectable: float
    seeds_to_settle: int | None
    covers_seeds: bool
    folds: int | None = None


def estimate(arm: Arm, metric: Metric, folds: Folds | None = None, overlap: float = 0.0) -> Estimate:
    """One arm's score: mean over tasks of the mean over seeds of the metric over rows.

    `arm` maps each task to its predictions, one a seed, all of the same rows in the same order; with `folds` one a run,
    each of the rows that it held out. `overlap`: of runs that are folds but share these test rows (see `two_way`).

    Raises UsageError when rows differ between seeds, when a task has fewer than 2 units, or when the metric is
    undefined on a task's rows.
    """
    if folds:
        parts, units = _over_folds([arm], metric, folds)
    else:
        _check([arm])
        values = [_pseudo(arm, task, metric) for task in arm]
        parts, units = two_way(values, overlap), _fewest(values)
    lower, upper = sorted((metric.sign * metric.lower, metric.sign * metric.upper))
    low, high = _interval(parts, 0.95, lower, upper, units)
    return Estimate(
        value=float(parts.mean),
        low=max(low, lower),
        high=min(high, upper),
        by_seed=tuple(parts.by_seed.tolist()),
        df=float(parts.df),
        covers_seeds=len(parts.by_seed) > 1,
    )


def contrast(a: Arm, b: Arm, metric: Metric, folds: Folds | None = None) -> Contrast:
    """Arm a minus arm b. `a` and `b` map the same tasks to predictions, one a seed: same seeds, same rows, same order.
    With `folds` one a run, each of the rows that this run held out.

    Raises UsageError when tasks, seeds or rows differ, when a task has fewer than 2 units, or when the metric is
    undefined on a task's rows.
    """
    if folds:
        parts, units = _over_folds([a, b], metric, folds)
    else:
        _check([a, b])
        values = [_pseudo(a, task, metric) - _pseudo(b, task, metric) for task in a]
        parts, units = two_way(values), _fewest(values)
    same = all(np.array_equal(p.outputs, q.outputs) for task in a for p, q in zip(a[task], b[task], strict=True))
    # Arms with the very same predictions differ by 0 on any test set: nothing to widen.
    span = 0.0 if same else metric.upper - metric.lower
    low, high = _interval(parts, 0.95, -span, span, units)
    low90, high90 = _interval(parts, 0.9, -span, span, units)
    p = _p(parts, span, units)
    return Contrast(
        difference=float(parts.mean),
        low=low,
        high=high,
        low90=low90,
        high90=high90,
        p=p,
        df=float(parts.df),
        by_seed=tuple(parts.by_seed.tolist()),
        probability_a_better=1 - p / 2 if parts.mean > 0 else p / 2,
        smallest_detectable=float(smallest_detectable(parts)) if parts.variance > 0 else (high - low) / 2,
        seeds_to_settle=repetitions_to_settle(parts, folds) if folds else seeds_to_settle(parts, FEWEST_SEEDS),
        covers_seeds=len(parts.by_seed) > 1,
        folds=folds.number if folds else None,
    )


def _over_folds(arms: Sequence[Arm], metric: Metric, folds: Folds) -> tuple[TwoWay, int]:
    """The score of one arm, or of the first minus the second, over runs; and the fewest units that a task was tested
    on, over all folds."""
    first = arms[0]
    if not first:
        raise UsageError("no tasks to compare on; expected at least one")
    for run in range(len(next(iter(first.values())))):
        # The rows of a fold are the same for all arms, as those of a shared test set are.
        _check([{task: [p[run]] for task, p in arm.items()} for arm in arms], run + 1)
    by_task = []
    for task in first:
        scores = [fold_scores(arm[task], metric) for arm in arms]
        for run, value in enumerate(scores[0]):
            if np.isnan(value):
                seen = np.unique(first[task][run].target).tolist()
                raise UsageError(
                    f"task {task!r}, run {run + 1}: {metric.name} is undefined on the rows that this fold holds out "
                    f"(classes found: {seen}); take fewer folds, or another metric"
                )
        by_task.append(scores[0] if len(scores) == 1 else scores[0] - scores[1])
    units = min(len({str(u) for p in seeds[: folds.number] for u in p.unit}) for seeds in first.values())
    return resampled(np.mean(by_task, axis=0), folds.overlap), units


def _fewest(values: Sequence[Floats]) -> int:
    return min(v.shape[-1] for v in values)


def _interval(parts: TwoWay, level: float, lower: float, upper: float, units: int) -> tuple[float, float]:
    """The t interval; without any variation, what `units` equal units leave open (Clopper-Pearson's bound).

    A test set whose n units are all alike can hide a share q = 1 - (alpha/2)^(1/n) of other units, which could be
    anything between `lower` and `upper`.
    """
    mean = float(parts.mean)
    if parts.variance > 0 or not np.isfinite(upper - lower):
        half = float(parts.half_width(level))
        return mean - half, mean + half
    hidden = 1 - ((1 - level) / 2) ** (1 / units)
    return mean - hidden * (mean - lower), mean + hidden * (upper - mean)


def _p(parts: TwoWay, span: float, units: int) -> float:
    """The level at which the interval just touches 0."""
    if parts.variance > 0 or parts.mean == 0 or not np.isfinite(span):
        return float(parts.p())
    return min(1.0, 2 * (span / (span + abs(float(parts.mean)))) ** units)


def _pseudo(arm: Arm, task: str, metric: Metric) -> Floats:
    values = pseudo_values(arm[task], metric)
    if values.shape[-1] < 2:
        raise UsageError(f"task {task!r}: all test rows belong to one unit; intervals need at least 2 units")
    if np.isnan(values).any():
        seen = np.unique(arm[task][0].target).tolist()
        raise UsageError(
            f"task {task!r}: {metric.name} is undefined on the test rows or on some 1/{values.shape[-1]} less of them "
            f"(classes found: {seen}); give rows of every class, in more units, or take another metric"
        )
    return values


def _check(arms: Sequence[Arm], begin: int = 1) -> None:
    """The same tasks, seeds and rows in all arms; the first of the seeds is number `begin`."""
    first = arms[0]
    if not first:
        raise UsageError("no tasks to compare on; expected at least one")
    for arm in arms[1:]:
        if set(arm) != set(first):
            raise UsageError(f"the arms were tested on different tasks: {sorted(first)} and {sorted(arm)}")
    seeds = {len(predictions) for arm in arms for predictions in arm.values()}
    if len(seeds) != 1 or 0 in seeds:
        raise UsageError(f"every arm and task needs predictions of the same seeds; found {sorted(seeds)} seeds")
    for task in first:
        reference = first[task][0]
        for arm in arms:
            for number, p in enumerate(arm[task], begin - 1):
                for column in ("unit", "target", "weight"):
                    _same_rows(task, number, column, getattr(reference, column), getattr(p, column))
                if p.outputs.shape[1] != reference.outputs.shape[1]:
                    raise UsageError(
                        f"task {task!r}, seed number {number + 1}: {p.outputs.shape[1]} classes; "
                        f"the first seed has {reference.outputs.shape[1]}"
                    )


def _same_rows(task: str, number: int, column: str, expected: NDArray[np.generic], found: NDArray[np.generic]) -> None:
    where = f"task {task!r}, seed number {number + 1}"
    if len(expected) != len(found):
        raise UsageError(
            f"{where}: {len(found)} rows; expected the first seed's {len(expected)}: the test set is shared"
        )
    rows = np.flatnonzero((expected != found).reshape(len(expected), -1).any(axis=1))
    if len(rows):
        raise UsageError(
            f"{where}, row {rows[0]}: {column} is {found[rows[0]]!s}, expected {expected[rows[0]]!s}: "
            "all seeds and arms must be tested on the same rows in the same order"
        )
