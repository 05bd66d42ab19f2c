"""The crossed bootstrap: what it draws together, and its spread where that is known."""

import numpy as np
import pytest
from crossed_draws import crossed_bootstrap

from tunemerge.stats.metrics import METRICS, metrics_of
from tunemerge.stats.predictions import Predictions


def arm(right, tasks=("t",)):
    """[S, N] of right or wrong answers, the same in each task."""
    n = right.shape[1]
    unit = np.array([f"{i:05d}" for i in range(n)])
    seeds = [Predictions(unit, np.ones(n, int), np.stack([-r, r], 1) - 0.5, np.ones(n)) for r in right * 2.0 - 1]
    return dict.fromkeys(tasks, seeds)


def test_units_are_drawn_once_for_all_arms_and_seeds():
    right = np.random.default_rng(0).random((1, 80)) < 0.7
    a = arm(np.repeat(right, 4, axis=0))
    draws = crossed_bootstrap([a, a], METRICS["accuracy"], draws=300)
    np.testing.assert_array_equal(draws[0], draws[1])
    # All seeds alike: what varies are the units alone.
    assert draws[0].std() == pytest.approx(right.std() / 80**0.5, rel=0.1)


def test_seeds_are_drawn_once_for_all_tasks():
    right = np.zeros((5, 40))
    right[:2] = 1  # seeds 1 and 2 get all units right, the others none: units don't matter
    one = crossed_bootstrap([arm(right)], METRICS["accuracy"], draws=2000)[0]
    two = crossed_bootstrap([arm(right, ("x", "y"))], METRICS["accuracy"], draws=2000)[0]
    expected = (0.4 * 0.6 / 5) ** 0.5
    assert one.std() == pytest.approx(expected, rel=0.06)
    assert two.std() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", metrics_of("classes"))
def test_scores_are_centred_on_the_metric_whatever_its_kind(name):
    rng = np.random.default_rng(1)
    n, metric = 500, METRICS[name]
    target, unit = rng.integers(0, 2, n), np.array([str(i) for i in range(n)])
    seeds = [Predictions(unit, target, rng.normal(size=(n, 2)) + 2 * np.eye(2)[target], np.ones(n)) for _ in range(3)]
    draws = crossed_bootstrap([{"t": seeds}], metric, draws=400)[0]
    expected = metric.sign * np.mean([metric.fn(p.target, p.outputs, p.weight) for p in seeds])
    slack = 0.03 if name == "ece" else 0.004  # absolute gaps grow when rows are drawn again
    assert draws.mean() == pytest.approx(expected, abs=slack)
    assert (draws < 0).all() == (metric.sign < 0)


def test_draws_repeat_with_their_seed():
    a = arm(np.random.default_rng(2).random((3, 30)) < 0.6)
    one, two, other = (crossed_bootstrap([a], METRICS["accuracy"], draws=20, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
