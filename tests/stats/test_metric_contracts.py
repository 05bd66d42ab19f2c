"""The contract suite over every registered metric, and what it finds in metrics that break it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tunemerge.stats.metrics import METRICS, Metric
from tunemerge.testing import metrics as suite


@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.parametrize("contract", suite.CONTRACTS, ids=lambda c: c.__name__)
def test_contract(name, contract):
    contract(METRICS[name])


ACCURACY = METRICS["accuracy"]
BROKEN = {
    "unweighted": (
        replace(ACCURACY, many=lambda t, p, w: np.full(len(w), np.mean(p.argmax(axis=1) == t))),
        suite.a_row_twice_is_a_weight_of_two,
    ),
    "a sum": (
        replace(ACCURACY, many=lambda t, p, w: w @ (p.argmax(axis=1) == t) / 1e3),
        suite.only_proportions_of_weights_count,
    ),
    "first rows": (
        Metric("first", True, lambda t, p, w: w[:, :30] @ (p.argmax(axis=1) == t)[:30] / w[:, :30].sum(axis=1)),
        suite.the_order_of_rows_does_not_count,
    ),
    "one number": (
        Metric("one", True, lambda t, p, w: np.mean(p.argmax(axis=1) == t, keepdims=True)),
        suite.many_weightings_are_each_by_itself,
    ),
    "other terms": (
        replace(ACCURACY, per_row=lambda t, p: np.ones(len(t))),
        suite.a_mean_is_the_mean_of_its_terms,
    ),
    "percent": (
        Metric("percent", True, lambda t, p, w: 100 * ACCURACY.many(t, p, w)),
        suite.values_are_within_its_limits,
    ),
    "upside down": (replace(ACCURACY, higher_is_better=False), suite.better_predictions_score_better),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(what):
    metric, contract = BROKEN[what]
    with pytest.raises(AssertionError):
        contract(metric)
