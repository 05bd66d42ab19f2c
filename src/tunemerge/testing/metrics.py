"""The contract that every metric keeps. For the project's own metrics and for plug-ins:

    @pytest.mark.parametrize("metric", [m for _, m in METRICS])
    @pytest.mark.parametrize("contract", CONTRACTS)
    def test_contract(metric, contract):
        contract(metric)

Every contract is a function of a Metric that raises AssertionError where the metric breaks it. They are what jackknives
and bootstraps rely on: a resample of rows is a weighting of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tunemerge.stats.metrics import Floats, Metric

ROWS = 60
_OF_TEXTS = {"likelihood": 3, "harness": 4, "completion": 5}  # columns of predictions
Sample = tuple[np.ndarray, Floats, Floats]


def samples(metric: Metric) -> Iterator[Sample]:
    """(target [n] or [n, m], predictions [n, k], weights [n]) of the kind that the metric scores: two classes and
    four, some of them right; several labels a row; values, forecasts, returns of six assets and twelve, and
    predictions near them; or texts and how likely they are."""
    for number, classes in enumerate((2, 4)):
        rng = np.random.default_rng(number)
        weights = rng.integers(1, 4, ROWS).astype(float)
        if metric.prediction in _OF_TEXTS:
            size, near = rng.integers(3, 90, ROWS).astype(float), rng.uniform(0, 1, ROWS)
            columns = [rng.uniform(1, 5, ROWS) * size, size, 4 * size, near > 0.5, near]
            yield 4 * size, np.stack(columns[: _OF_TEXTS[metric.prediction]], axis=1), weights
        elif metric.prediction == "classes":
            target = np.arange(ROWS) % classes
            yield target, rng.normal(size=(ROWS, classes)) + 1.5 * np.eye(classes)[target], weights
        elif metric.prediction == "labels":
            applies = (np.arange(ROWS)[:, None] % (np.arange(classes) + 2) == 0).astype(float)
            yield applies, rng.normal(size=applies.shape) + 2 * applies - 1, weights
        elif metric.prediction == "forecast":
            came = rng.normal(3.0, 2.0, (ROWS, classes))
            scale = rng.uniform(0.5, 2.0, (ROWS, 1))
            yield np.hstack([came, scale]), came + rng.normal(0, 0.7, came.shape), weights
        elif metric.prediction == "return":
            came, assets = rng.normal(0.0, 0.02, ROWS), 3 * classes
            places = np.divmod(np.arange(ROWS), assets)
            answer = np.stack([came, *places, np.full(ROWS, 0.001)], axis=1)
            yield answer, (came + rng.normal(0, 0.01, ROWS))[:, None], weights
        else:
            value = rng.normal(3.0, 2.0, ROWS)
            yield value, (value + rng.normal(0, 0.7 + number, ROWS))[:, None], weights


def a_row_twice_is_a_weight_of_two(metric: Metric) -> None:
    for target, predictions, weights in samples(metric):
        times = weights.astype(int)
        repeated = metric.fn(
            np.repeat(target, times, axis=0), np.repeat(predictions, times, axis=0), np.ones(times.sum())
        )
        _same(metric, metric.fn(target, predictions, weights), repeated, "rows repeated")


def a_weight_of_zero_is_no_row(metric: Metric) -> None:
    for target, predictions, weights in samples(metric):
        kept = np.arange(ROWS) % 5 != 0
        without = metric.fn(target[kept], predictions[kept], weights[kept])
        _same(metric, metric.fn(target, predictions, weights * kept), without, "rows left out")


def only_proportions_of_weights_count(metric: Metric) -> None:
    for target, predictions, weights in samples(metric):
        one = metric.fn(target, predictions, weights)
        _same(metric, one, metric.fn(target, predictions, weights * 7.0), "weights times seven")


def the_order_of_rows_does_not_count(metric: Metric) -> None:
    for target, predictions, weights in samples(metric):
        order = np.random.default_rng(5).permutation(ROWS)
        moved = metric.fn(target[order], predictions[order], weights[order])
        _same(metric, metric.fn(target, predictions, weights), moved, "rows in another order")


def many_weightings_are_each_by_itself(metric: Metric) -> None:
    """`many` gives [B], for each weighting what it gives for that one alone."""
    for target, predictions, weights in samples(metric):
        several = np.stack([weights, weights[::-1], np.ones(ROWS)])
        found = metric.many(target, predictions, several)
        assert np.shape(found) == (3,), f"{metric.name}: shape {np.shape(found)} for 3 weightings, expected (3,)"
        for value, alone in zip(found, several, strict=True):
            _same(metric, float(value), metric.fn(target, predictions, alone), "one of several weightings")


def a_mean_is_the_mean_of_its_terms(metric: Metric) -> None:
    """`per_row`, where there is one, has the terms of which the metric is the weighted mean."""
    if metric.per_row is None:
        return
    for target, predictions, weights in samples(metric):
        terms = metric.per_row(target, predictions)
        assert np.shape(terms) == (ROWS,), f"{metric.name}: per_row gives {np.shape(terms)}, expected ({ROWS},)"
        mean = float(np.average(terms, weights=weights))
        _same(metric, metric.fn(target, predictions, weights), mean, "the mean of per_row")


def values_are_within_its_limits(metric: Metric) -> None:
    for target, predictions, weights in samples(metric):
        found = metric.fn(target, predictions, weights)
        assert metric.lower <= found <= metric.upper, f"{metric.name}: {found} not in [{metric.lower}, {metric.upper}]"


def better_predictions_score_better(metric: Metric) -> None:
    """What is nearer to the truth scores no worse than noise, in the direction that `higher_is_better` says."""
    for target, predictions, weights in samples(metric):
        noise = np.random.default_rng(9).permutation(predictions)
        if metric.prediction in _OF_TEXTS:  # rows in another order are as good; worse ones are not
            noise = predictions * np.array([1.5, 1, 1, 0.5, 0.5])[: predictions.shape[1]]
        good, bad = (metric.sign * metric.fn(target, p, weights) for p in (predictions, noise))
        assert good > bad, f"{metric.name}: {good} for predictions that know something, {bad} for shuffled ones"


CONTRACTS: tuple[Callable[[Metric], None], ...] = (
    a_row_twice_is_a_weight_of_two,
    a_weight_of_zero_is_no_row,
    only_proportions_of_weights_count,
    the_order_of_rows_does_not_count,
    many_weightings_are_each_by_itself,
    a_mean_is_the_mean_of_its_terms,
    values_are_within_its_limits,
    better_predictions_score_better,
)


def _same(metric: Metric, one: float, other: float, what: str) -> None:
    assert np.isclose(one, other, rtol=1e-9, atol=1e-12), f"{metric.name}: {one} against {other} with {what}"
