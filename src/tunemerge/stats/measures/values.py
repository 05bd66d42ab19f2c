"""Of one number a row: target [n] and outputs [n, 1] are in the data's unit."""

from __future__ import annotations

import numpy as np

from tunemerge.stats.metrics import METRICS, Floats, Metric, mean_of


def _mae_terms(target: Floats, values: Floats) -> Floats:
    return np.abs(values[:, 0] - target)


def _rmse(target: Floats, values: Floats, weights: Floats) -> Floats:
    return np.sqrt(weights @ (values[:, 0] - target) ** 2 / weights.sum(axis=1))


def r2(target: Floats, values: Floats, weights: Floats) -> Floats:
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


for _metric in (
    Metric("rmse", False, _rmse, upper=np.inf, prediction="value", has_unit=True),
    Metric("mae", False, mean_of(_mae_terms), _mae_terms, upper=np.inf, prediction="value", has_unit=True),
    Metric("r2", True, r2, lower=-np.inf, prediction="value"),
    Metric("spearman", True, _spearman, lower=-1.0, prediction="value"),
):
    METRICS.add(_metric.name, _metric)
