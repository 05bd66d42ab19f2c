"""Metrics of several labels a row: target [n, m] is 1 where a label applies, a prediction one logit a label; a label is
predicted where its logit is above 0."""

from __future__ import annotations

import numpy as np

from tunemerge.stats.metrics import METRICS, Floats, Metric, area_under_roc, mean_of


def _counts(target: Floats, logits: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the hits, and of targets and predictions together, each [B, m]."""
    predicted = (logits > 0).astype(np.float64)
    return weights @ (target * predicted), weights @ (target + predicted)


def _micro_f1(target: Floats, logits: Floats, weights: Floats) -> Floats:
    """F1 of all answers together; nan where no label applies and none is predicted."""
    hits, total = (x.sum(axis=1) for x in _counts(target, logits, weights))
    return np.divide(2 * hits, total, out=np.full_like(hits, np.nan), where=total > 0)


def _label_f1(target: Floats, logits: Floats, weights: Floats) -> Floats:
    """Unweighted mean of F1 over the labels that apply or are predicted anywhere; nan where there is none."""
    hits, total = _counts(target, logits, weights)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    seen = (total > 0).sum(axis=1)
    return np.divide(f1.sum(axis=1), seen, out=np.full(len(weights), np.nan), where=seen > 0)


def _exact(target: Floats, logits: Floats) -> Floats:
    return np.asarray(((logits > 0) == (target > 0.5)).all(axis=1), np.float64)


def _surprise(target: Floats, logits: Floats) -> Floats:
    return np.asarray(np.logaddexp(0.0, np.where(target > 0.5, -logits, logits)).mean(axis=1), np.float64)


def _label_auroc(target: Floats, logits: Floats, weights: Floats) -> Floats:
    """Unweighted mean over the labels that some rows have and others lack."""
    areas = np.stack([area_under_roc(t > 0.5, x, weights) for t, x in zip(target.T, logits.T, strict=True)])
    defined = (~np.isnan(areas)).sum(axis=0)
    return np.divide(np.nansum(areas, axis=0), defined, out=np.full(len(weights), np.nan), where=defined > 0)


for _metric in (
    Metric("micro_f1", True, _micro_f1, prediction="labels"),
    Metric("label_f1", True, _label_f1, prediction="labels"),
    Metric("exact_labels", True, mean_of(_exact), _exact, prediction="labels"),
    Metric("label_auroc", True, _label_auroc, prediction="labels", probabilities=True),
    Metric(
        "label_log_loss", False, mean_of(_surprise), _surprise, upper=np.inf, prediction="labels", probabilities=True
    ),
):
    METRICS.add(_metric.name, _metric)
