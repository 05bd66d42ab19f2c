"""Of one class a row: target [n] is its number, outputs [n, C] are logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunemerge.stats.metrics import METRICS, Floats, Metric, Targets, area_under_roc, log_softmax, mean_of

ECE_BINS = 15


def correct(target: Targets, logits: Floats) -> Floats:
    return (logits.argmax(axis=1) == target).astype(np.float64)


def _surprise(target: Targets, logits: Floats) -> Floats:
    return -log_softmax(logits)[np.arange(len(target)), target]


def _macro_f1(target: Targets, logits: Floats, weights: Floats) -> Floats:
    """Unweighted mean of F1 over the classes that occur in the targets or the predictions (scikit-learn's default)."""
    classes = np.eye(logits.shape[1])
    actual, predicted = classes[target], classes[logits.argmax(axis=1)]
    hits, total = weights @ (actual * predicted), weights @ (actual + predicted)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return np.asarray(f1.sum(axis=1) / (total > 0).sum(axis=1), np.float64)


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
    gap = np.eye(ECE_BINS)[bins] * (correct(target, logits) - confidence)[:, None]
    return np.asarray(np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1), np.float64)


for _metric in (
    Metric("accuracy", True, mean_of(correct), correct),
    Metric("macro_f1", True, _macro_f1),
    Metric("auroc", True, _auroc, probabilities=True),
    Metric("log_loss", False, mean_of(_surprise), _surprise, upper=np.inf, probabilities=True),
    Metric("auprc", True, _auprc, probabilities=True),
    Metric("brier", False, mean_of(_brier), _brier, probabilities=True),
    Metric("ece", False, _ece, probabilities=True),
):
    METRICS.add(_metric.name, _metric)
