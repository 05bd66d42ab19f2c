"""Metrics of predicted returns: a row's target is its return, the day on which it was predicted, the number of the
asset and the cost of a trade as a share of its value; its prediction one number, the return."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tunemerge.stats.metrics import METRICS, Floats, Metric, mean_of
from tunemerge.stats.portfolio import Book, Panel, correlation, drawdown, mean_return, sharpe, volatility


def _direction(target: Floats, values: Floats) -> Floats:
    """1 where the sign is right, a half where the prediction or the return is 0."""
    return np.asarray(0.5 + 0.5 * np.sign(values[:, 0]) * np.sign(target[:, 0]), np.float64)


def _information(target: Floats, values: Floats, weights: Floats) -> Floats:
    """Rank correlation of prediction and return: of the assets of a day, mean over days (Grinold and Kahn, Active
    Portfolio Management); with few assets of all rows. 0 where predictions say nothing."""
    panel = Panel.of(target, values)
    return np.array([correlation(panel, w) for w in weights])


def _of_book(measure: Callable[[Book], float]) -> Callable[[Floats, Floats, Floats], Floats]:
    def many(target: Floats, values: Floats, weights: Floats) -> Floats:
        panel = Panel.of(target, values)
        return np.array([measure(panel.book(w)) for w in weights])

    return many


for _metric in (
    Metric("directional_accuracy", True, mean_of(_direction), _direction, prediction="return"),
    Metric("information_coefficient", True, _information, lower=-1.0, prediction="return"),
    Metric("portfolio_return", True, _of_book(mean_return), lower=-np.inf, upper=np.inf, prediction="return"),
    Metric("portfolio_volatility", False, _of_book(volatility), upper=np.inf, prediction="return"),
    Metric("sharpe", True, _of_book(sharpe), lower=-np.inf, upper=np.inf, prediction="return"),
    Metric("drawdown", False, _of_book(drawdown), prediction="return"),
):
    METRICS.add(_metric.name, _metric)
