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


ECE_BINS = 15
EITHER = "classes or value"
BOTH = "accuracy_and_r2"


@dataclass(frozen=True)
class Metric:
    """One metric over predictions.

    `many(target [n], logits [n, C], weights [B, n]) -> [B]`: the metric under B weightings; nan where undefined.
    `per_row(target, logits) -> [n]`: for a metric that is a weighted mean over rows, its terms; else None.
    `lower`, `upper`: the values that it can take. `prediction`: what it scores (see `tasks.task.TaskKind`):
    logits of classes; a value, its target [n] and "logits" [n, 1] in the data's unit; either, told apart by the dtype
    of the targets, for studies that have both; "likelihood", "logits" [n, 3]: minus the log likelihood of a text in
    nats, its tokens, its bytes; or "completion", the same and, where an answer was generated, two columns more: its
    exact match and ROUGE-L. `has_unit`: whether it is in that unit, so that nobody can say
    beforehand which difference is small. `probabilities`: whether predicted labels alone don't give it.
    `generated`: whether it scores what a model writes, which takes longer than one pass.
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

    def fn(self, target: Targets, logits: Floats, weight: Floats) -> float:
        """The metric itself, for target [n], logits [n, C], weight [n]; nan where it is undefined."""
        return float(self.many(target, logits, np.asarray(weight, np.float64)[None, :])[0])


def score(metric: Metric, target: Targets, logits: Floats, weight: Floats) -> float:
    """The metric, negated where lower is better, so that a higher score is always better."""
    return metric.sign * metric.fn(target, logits, weight)


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities [n, C] of logits [n, C], without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def _correct(target: Targets, logits: Floats) -> Floats:
    return (logits.argmax(axis=1) == target).astype(np.float64)


def _surprise(target: Targets, logits: Floats) -> Floats:
    return -log_softmax(logits)[np.arange(len(target)), target]


def mean_of(per_row: Callable[[Targets, Floats], Floats]) -> Callable[[Targets, Floats, Floats], Floats]:
    """`many` of a metric whose terms these are."""

    def many(target: Targets, logits: Floats, weights: Floats) -> Floats:
        return np.asarray(weights @ per_row(target, logits) / weights.sum(axis=1), np.float64)

    return many


def _macro_f1(target: Targets, logits: Floats, weights: Floats) -> Floats:
    """Unweighted mean of F1 over the classes that occur in the targets or the predictions (scikit-learn's default)."""
    classes = np.eye(logits.shape[1])
    actual, predicted = classes[target], classes[logits.argmax(axis=1)]
    hits, total = weights @ (actual * predicted), weights @ (actual + predicted)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return np.asarray(f1.sum(axis=1) / (total > 0).sum(axis=1), np.float64)


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


def _auroc(target: Targets, logits: Floats, weights: Floats) -> Floats:
    """Two classes: ranked by the log odds of class 1. More: one-vs-rest, mean over the classes that occur."""
    if logits.shape[1] == 2:
        return area_under_roc(target == 1, logits[:, 1] - logits[:, 0], weights)
    ranking = log_softmax(logits)
    areas = np.stack([area_under_roc(target == c, ranking[:, c], weights) for c in range(logits.shape[1])])
    defined = (~np.isnan(areas)).sum(axis=0)
    return np.divide(np.nansum(areas, axis=0), defined, out=np.full(len(weights), np.nan), where=defined > 0)


def _auprc(target: Targets, logits: Floats, weights: Floats) -> Floats:
    """Area under the precision-recall curve (average precision): of class 1 where there are two, else one-vs-rest, mean
    over the classes that occur. What knows nothing scores the share of the class."""
    if logits.shape[1] == 2:
        return _average_precision(target == 1, logits[:, 1] - logits[:, 0], weights)
    ranking = log_softmax(logits)
    areas = np.stack([_average_precision(target == c, ranking[:, c], weights) for c in range(logits.shape[1])])
    defined = (~np.isnan(areas)).sum(axis=0)
    return np.divide(np.nansum(areas, axis=0), defined, out=np.full(len(weights), np.nan), where=defined > 0)


def _average_precision(positive: NDArray[np.bool_], ranking: Floats, weights: Floats) -> Floats:
    """Sum over thresholds of precision times the recall that each adds [B]; nan where no positive row has weight."""
    order = np.argsort(-ranking, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(ranking[order]) != 0, True))  # rows of one score share a threshold
    hits = np.cumsum(weights[:, order] * positive[order], axis=1)[:, ends]
    taken = np.cumsum(weights[:, order], axis=1)[:, ends]
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    area = (precision * np.diff(hits, axis=1, prepend=0)).sum(axis=1)
    return np.divide(area, hits[:, -1], out=np.full(len(weights), np.nan), where=hits[:, -1] > 0)


def _brier(target: Targets, logits: Floats) -> Floats:
    """Half the squared distance between probabilities and answer: (p - y)^2 where there are two classes."""
    probability = np.exp(log_softmax(logits))
    return np.asarray(((probability - np.eye(logits.shape[1])[target]) ** 2).sum(axis=1) / 2, np.float64)


def _ece(target: Targets, logits: Floats, weights: Floats) -> Floats:
    """Expected calibration error of the top label, equal-width bins (i/15, (i+1)/15] (Guo et al. 2017, 1706.04599)."""
    confidence = np.exp(log_softmax(logits).max(axis=1))
    bins = np.searchsorted(np.arange(1, ECE_BINS) / ECE_BINS, confidence)
    gap = np.eye(ECE_BINS)[bins] * (_correct(target, logits) - confidence)[:, None]
    return np.asarray(np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1), np.float64)


def _mae_terms(target: Floats, values: Floats) -> Floats:
    return np.abs(values[:, 0] - target)


def _rmse(target: Floats, values: Floats, weights: Floats) -> Floats:
    return np.sqrt(weights @ (values[:, 0] - target) ** 2 / weights.sum(axis=1))


def _r2(target: Floats, values: Floats, weights: Floats) -> Floats:
    """1 minus the squared error over that of the mean of these rows; nan where all targets are one value."""
    total = weights.sum(axis=1)
    spread = weights @ target**2 / total - (weights @ target / total) ** 2
    error = weights @ (values[:, 0] - target) ** 2 / total
    known = spread > 1e-12 * np.mean(target**2)
    return 1 - np.divide(error, spread, out=np.full_like(error, np.nan), where=known)


def _spearman(target: Floats, values: Floats, weights: Floats) -> Floats:
    """Correlation of the ranks, equal values sharing their mean rank; nan where either side is one value."""
    a, b = _ranks(target, weights), _ranks(values[:, 0], weights)
    total = weights.sum(axis=1, keepdims=True)
    a, b = (r - (weights * r).sum(axis=1, keepdims=True) / total for r in (a, b))
    size = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
    return np.divide((weights * a * b).sum(axis=1), size, out=np.full(len(weights), np.nan), where=size > 1e-9)


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Share of the weight [B, n] below each value, and half of that at it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    below = np.zeros((len(weights), len(values) + 1))
    np.cumsum(weights[:, order], axis=1, out=below[:, 1:])
    first, last = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below[:, first] + below[:, last]) / (2 * below[:, -1:]), np.float64)


def _nll(target: Floats, likelihood: Floats, weights: Floats) -> Floats:
    """Nats a token; columns of `likelihood` are minus the log likelihood of a row, its tokens, its bytes."""
    return np.asarray(weights @ likelihood[:, 0] / (weights @ likelihood[:, 1]), np.float64)


def _perplexity(target: Floats, likelihood: Floats, weights: Floats) -> Floats:
    return np.asarray(np.exp(np.minimum(_nll(target, likelihood, weights), 700.0)), np.float64)


def _bits_per_byte(target: Floats, likelihood: Floats, weights: Floats) -> Floats:
    """What is needed to send the text: comparable across tokenizers, which nats a token are not."""
    return np.asarray(weights @ likelihood[:, 0] / (np.log(2.0) * (weights @ likelihood[:, 2])), np.float64)


def _accuracy_or_r2(target: Targets, outputs: Floats, weights: Floats) -> Floats:
    classes = np.issubdtype(target.dtype, np.integer)
    return mean_of(_correct)(target, outputs, weights) if classes else _r2(target, outputs, weights)


def _exact_match(target: Floats, completion: Floats) -> Floats:
    return completion[:, 3]


def _rouge_l(target: Floats, completion: Floats) -> Floats:
    return completion[:, 4]


METRICS: Registry[Metric] = Registry("metric", "tunemerge.stats.measures", "tunemerge.metrics")
for _metric in (
    Metric("accuracy", True, mean_of(_correct), _correct),
    Metric("macro_f1", True, _macro_f1),
    Metric("auroc", True, _auroc, probabilities=True),
    Metric("log_loss", False, mean_of(_surprise), _surprise, upper=np.inf, probabilities=True),
    Metric("auprc", True, _auprc, probabilities=True),
    Metric("brier", False, mean_of(_brier), _brier, probabilities=True),
    Metric("ece", False, _ece, probabilities=True),
    Metric("rmse", False, _rmse, upper=np.inf, prediction="value", has_unit=True),
    Metric("mae", False, mean_of(_mae_terms), _mae_terms, upper=np.inf, prediction="value", has_unit=True),
    Metric("r2", True, _r2, lower=-np.inf, prediction="value"),
    Metric("spearman", True, _spearman, lower=-1.0, prediction="value"),
    Metric("bits_per_byte", False, _bits_per_byte, upper=np.inf, prediction="likelihood"),
    Metric("nll_per_token", False, _nll, upper=np.inf, prediction="likelihood"),
    Metric("perplexity", False, _perplexity, lower=1.0, upper=np.inf, prediction="likelihood"),
    Metric("completion_bits_per_byte", False, _bits_per_byte, upper=np.inf, prediction="completion"),
    Metric("completion_nll", False, _nll, upper=np.inf, prediction="completion"),
    Metric("exact_match", True, mean_of(_exact_match), _exact_match, prediction="completion", generated=True),
    Metric("rouge_l", True, mean_of(_rouge_l), _rouge_l, prediction="completion", generated=True),
    Metric(BOTH, True, _accuracy_or_r2, lower=-np.inf, prediction=EITHER),
):
    METRICS.add(_metric.name, _metric)


def metrics_of(prediction: str) -> dict[str, Metric]:
    """The metrics that score this kind of prediction, by name."""
    return {name: metric for name, metric in METRICS if metric.prediction == prediction}
