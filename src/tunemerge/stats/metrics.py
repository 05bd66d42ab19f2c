"""Metrics: pure functions of stored predictions, weighted, computed for many weightings of the same rows at once.

A resample of a test set is a reweighting of its rows (a deleted unit weighs 0, one drawn twice counts double), so a
metric that takes a matrix of weights gives jackknives and bootstraps in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.registry import Registry

Floats = NDArray[np.float64]
Targets = NDArray[Any]

EITHER = "classes or value"
BOTH = "accuracy_and_r2"


@dataclass(frozen=True)
class Metric:
    """One metric over predictions.

    `many(target [n], outputs [n, k], weights [B, n]) -> [B]`: the metric under B weightings; nan where undefined.
    `per_row(target, outputs) -> [n]`: for a metric that is a weighted mean over rows, its terms; else None.
    `lower`, `upper`: the values that it can take. `prediction`: what it scores (see `tasks.task.TaskKind`), which says
    what outputs are: the files of `stats/measures/` have one each. `has_unit`: whether it is in the unit of the data,
    so that nobody can say beforehand which difference is small. `probabilities`: whether predicted labels alone don't
    give it. `generated`: whether it scores what a model writes, which takes longer than one pass.
    """

    name: str
    higher_is_better: bool
    many: Callable[[Targets, Floats, Floats], Floats]
    per_row: Callable[[Targets, Floats], Floats] | None = None
    lower: float = 0.0
    upper: float = 1.0
    prediction: str = "classes"
    has_unit: bool = False
    probabilities: bool = False
    generated: bool = False

    def scores(self, prediction: str) -> bool:
        """Whether it scores this kind of prediction."""
        return self.prediction == prediction or (self.prediction == EITHER and prediction in ("classes", "value"))

    @property
    def is_mean(self) -> bool:
        """Whether it is a weighted mean over rows."""
        return self.per_row is not None

    @property
    def sign(self) -> float:
        """What turns the metric into a score (higher is better)."""
        return 1.0 if self.higher_is_better else -1.0

    def fn(self, target: Targets, outputs: Floats, weight: Floats) -> float:
        """The metric itself, for target [n], outputs [n, k], weight [n]; nan where it is undefined."""
        return float(self.many(target, outputs, np.asarray(weight, np.float64)[None, :])[0])


def score(metric: Metric, target: Targets, outputs: Floats, weight: Floats) -> float:
    """The metric, negated where lower is better, so that a higher score is always better."""
    return metric.sign * metric.fn(target, outputs, weight)


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities [n, C] of logits [n, C], without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def mean_of(per_row: Callable[[Targets, Floats], Floats]) -> Callable[[Targets, Floats, Floats], Floats]:
    """`many` of a metric whose terms these are."""

    def many(target: Targets, outputs: Floats, weights: Floats) -> Floats:
        return np.asarray(weights @ per_row(target, outputs) / weights.sum(axis=1), np.float64)

    return many


def area_under_roc(positive: NDArray[np.bool_], ranking: Floats, weights: Floats) -> Floats:
    """Weighted area under the ROC curve [B], ties half; nan where one side has no weight."""
    others = np.flatnonzero(~positive)
    others = others[np.argsort(ranking[others], kind="stable")]
    below = np.zeros((len(weights), len(others) + 1))  # [:, k]: the weight of the k lowest negatives
    np.cumsum(weights[:, others], axis=1, out=below[:, 1:])
    first = np.searchsorted(ranking[others], ranking[positive], side="left")
    last = np.searchsorted(ranking[others], ranking[positive], side="right")
    weight = weights[:, positive]
    wins = np.einsum("bi,bi->b", weight, below[:, first]) + np.einsum("bi,bi->b", weight, below[:, last])
    pairs = 2 * weight.sum(axis=1) * below[:, -1]
    return np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)


METRICS: Registry[Metric] = Registry("metric", "tunemerge.stats.measures", "tunemerge.metrics")


def metrics_of(prediction: str) -> dict[str, Metric]:
    """The metrics that score this kind of prediction, by name."""
    return {name: metric for name, metric in METRICS if metric.prediction == prediction}
