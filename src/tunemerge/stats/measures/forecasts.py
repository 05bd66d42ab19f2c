"""Metrics of forecasts: a row's target is the h values that came and, last, the scale of its series; its prediction h
values, all in the unit of the data."""

from __future__ import annotations

import numpy as np

from tunemerge.stats.metrics import METRICS, Floats, Metric


def _errors(target: Floats, values: Floats) -> Floats:
    return values - target[:, :-1]


def _mase_terms(target: Floats, values: Floats) -> Floats:
    """Mean absolute error over that of the seasonal naive forecast within the series' own past (Hyndman and Koehler
    2006, doi:10.1016/j.ijforecast.2006.03.001)."""
    return np.asarray(np.abs(_errors(target, values)).mean(axis=1) / target[:, -1], np.float64)


def _smape_terms(target: Floats, values: Floats) -> Floats:
    """2 |error| over the sum of both magnitudes, as a share (0 to 2); two zeros are no error (Makridakis and Hibon
    2000, doi:10.1016/S0169-2070(00)00057-1)."""
    size = np.abs(values) + np.abs(target[:, :-1])
    share = np.divide(2 * np.abs(_errors(target, values)), size, out=np.zeros_like(size), where=size > 0)
    return np.asarray(share.mean(axis=1), np.float64)


def _rmse(target: Floats, values: Floats, weights: Floats) -> Floats:
    squares = (_errors(target, values) ** 2).mean(axis=1)
    return np.asarray(np.sqrt(weights @ squares / weights.sum(axis=1)), np.float64)


def _mase(target: Floats, values: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ _mase_terms(target, values) / weights.sum(axis=1), np.float64)


def _smape(target: Floats, values: Floats, weights: Floats) -> Floats:
    return np.asarray(weights @ _smape_terms(target, values) / weights.sum(axis=1), np.float64)


for _metric in (
    Metric("mase", False, _mase, _mase_terms, upper=np.inf, prediction="forecast"),
    Metric("smape", False, _smape, _smape_terms, upper=2.0, prediction="forecast"),
    Metric("forecast_rmse", False, _rmse, upper=np.inf, prediction="forecast", has_unit=True),
):
    METRICS.add(_metric.name, _metric)
