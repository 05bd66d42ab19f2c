"""Pseudo-values: the two ways to them agree where both apply."""

from dataclasses import replace

import numpy as np
import pytest

from metric_names import ONE_NUMBER
from tunemerge.stats.metrics import METRICS
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.pseudo import BLOCKS, pseudo_values


def predictions(rows, units, seeds=3):
    rng = np.random.default_rng(0)
    target, unit = rng.integers(0, 2, rows), np.array([f"{i:04d}" for i in rng.integers(0, units, rows)])
    weight = rng.uniform(0.2, 5, rows)
    return [Predictions(unit, target, rng.normal(size=(rows, 2)), weight) for _ in range(seeds)]


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_deleting_units_gives_a_means_linearised_values(name):
    """With one unit a block, whatever the units' weights (the order differs: blocks are dealt)."""
    seeds = predictions(200, 30)
    linear = pseudo_values(seeds, METRICS[name])
    deleted = pseudo_values(seeds, replace(METRICS[name], per_row=None))
    assert linear.shape == deleted.shape == (3, len(np.unique(seeds[0].unit)))
    np.testing.assert_allclose(np.sort(deleted, axis=1), np.sort(linear, axis=1), atol=1e-12)


def test_a_pseudo_value_by_hand():
    """Units of 2, 1 and 1 rows, right 1, 0 and 1 times: accuracy 1/2, unit by unit 1/2 + 3 (right - rows/2)/4."""
    logits = np.array([[0.0, 1], [1, 0], [1, 0], [0, 1]])
    p = Predictions(np.array(["a", "a", "b", "c"]), np.ones(4, int), logits, np.ones(4))
    np.testing.assert_allclose(pseudo_values([p], METRICS["accuracy"]), [[0.5, 0.125, 0.875]])


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_their_mean_is_the_score(name):
    seeds = predictions(400, 170)
    metric = METRICS[name]
    values = pseudo_values(seeds, metric)
    assert values.shape[1] == (len(np.unique(seeds[0].unit)) if metric.is_mean else BLOCKS)
    scores = [metric.sign * metric.fn(p.target, p.outputs, p.weight) for p in seeds]
    np.testing.assert_allclose(values.mean(axis=1), scores, atol=1e-12)
