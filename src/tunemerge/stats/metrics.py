"""Metrics: pure functions of stored predictions, weighted, computed for many weightings of the same rows at once.

A resample of a test set is a reweighting of its rows (a deleted unit weighs 0, one drawn twice counts double), so a
metric that takes a matrix of weights gives jackknives and bootstraps in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunemerge.registry import Registry

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

ECE_BINS = 15


@dataclass(frozen=True)
class Metric:
    """One metric over predictions.

    `many(target [n], logits [n, C], weights [B, n]) -> [B]`: the metric under B weightings; nan where undefined.
    `per_row(target, logits) -> [n]`: for a metric that is a weighted mean over rows, its terms; else None.
    `lower`, `upper`: the values that it can take.
    """

    name: str
    higher_is_better: bool
    many: Callable[[Ints, Floats, Floats], Floats]
    per_row: Callable[[Ints, Floats], Floats] | None = None
    lower: float = 0.0
    upper: float = 1.0

    @property
    def is_mean(self) -> bool:
        """Whether it is a weighted mean over rows."""
        return self.per_row is not None

    @property
    def sign(self) -> float:
        """What turns the metric into a score (higher is better)."""
        return 1.0 if self.higher_is_better else -1.0

    def fn(self, target: Ints, logits: Floats, weight: Floats) -> float:
        """The metric itself, for target [n], logits [n, C], weight [n]; nan where it is undefined."""
        return float(self.many(target, logits, np.asarray(weight, np.float64)[None, :])[0])


def score(metric: Metric, target: Ints, logits: Floats, weight: Floats) -> float:
    """The metric, negated where lower is better, so that a higher score is always better."""
    return metric.sign * metric.fn(target, logits, weight)


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities [n, C] of logits [n, C], without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def _correct(target: Ints, logits: Floats) -> Floats:
    return (logits.argmax(axis=1) == target).astype(np.float64)


def _surprise(target: Ints, logits: Floats) -> Floats:
    return -log_softmax(logits)[np.arange(len(target)), target]


def _mean_of(per_row: Callable[[Ints, Floats], Floats]) -> Callable[[Ints, Floats, Floats], Floats]:
    def many(target: Ints, logits: Floats, weights: Floats) -> Floats:
        return np.asarray(weights @ per_row(target, logits) / weights.sum(axis=1), np.float64)

    return many


def _macro_f1(target: Ints, logits: Floats, weights: Floats) -> Floats:
    """Unweighted mean of F1 over the classes that occur in the targets or the predictions (scikit-learn's default)."""
    classes = np.eye(logits.shape[1])
    actual, predicted = classes[target], classes[logits.argmax(axis=1)]
    hits, total = weights @ (actual * predicted), weights @ (actual + predicted)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return np.asarray(f1.sum(axis=1) / (total > 0).sum(axis=1), np.float64)


def _area(positive: NDArray[np.bool_], ranking: Floats, weights: Floats) -> Floats:
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


def _auroc(target: Ints, logits: Floats, weights: Floats) -> Floats:
    """Two classes: ranked by the log odds of class 1. More: one-vs-rest, mean over the classes that occur."""
    if logits.shape[1] == 2:
        return _area(target == 1, logits[:, 1] - logits[:, 0], weights)
    ranking = log_softmax(logits)
    areas = np.stack([_area(target == c, ranking[:, c], weights) for c in range(logits.shape[1])])
    defined = (~np.isnan(areas)).sum(axis=0)
    return np.divide(np.nansum(areas, axis=0), defined, out=np.full(len(weights), np.nan), where=defined > 0)


def _ece(target: Ints, logits: Floats, weights: Floats) -> Floats:
    """Expected calibration error of the top label, equal-width bins (i/15, (i+1)/15] (Guo et al. 2017, 1706.04599)."""
    confidence = np.exp(log_softmax(logits).max(axis=1))
    bins = np.searchsorted(np.arange(1, ECE_BINS) / ECE_BINS, confidence)
    gap = np.eye(ECE_BINS)[bins] * (_correct(target, logits) - confidence)[:, None]
    return np.asarray(np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1), np.float64)


METRICS: Registry[Metric] = Registry("metric", group="tunemerge.metrics")
for _metric in (
    Metric("accuracy", True, _mean_of(_correct), _correct),
    Metric("macro_f1", True, _macro_f1),
    Metric("auroc", True, _auroc),
    Metric("log_loss", False, _mean_of(_surprise), _surprise, upper=np.inf),
    Metric("ece", False, _ece),
):
    METRICS.add(_metric.name, _metric)
