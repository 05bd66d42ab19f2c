"""The corrected resampled t test, by hand and through the code that decides studies."""

import numpy as np
import pytest
from scipy import stats

from tunemerge.errors import UsageError
from tunemerge.stats.components import contrast, estimate
from tunemerge.stats.folds import Folds, repetitions_to_settle, resampled
from tunemerge.stats.metrics import METRICS
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.twoway import two_way

ACCURACY = METRICS["accuracy"]


def fold(right, run, n=20, units=None):
    """Predictions of n rows of which the first `right` are right."""
    target = np.arange(n) % 2
    guess = np.where(np.arange(n) < right, target, 1 - target)
    unit = np.array([f"{run}-{i if units is None else units[i]}" for i in range(n)])
    return Predictions(unit, target, np.eye(2)[guess], np.ones(n))


def arm(counts, **more):
    return {"t": [fold(c, run, **more) for run, c in enumerate(counts)]}


A, B = (18, 17, 15, 16, 19), (15, 16, 15, 13, 16)


def test_it_is_nadeau_and_bengios_formula():
    d = (np.array(A) - np.array(B)) / 20
    se = np.sqrt(d.var(ddof=1) * (1 / 5 + 1 / 4))
    found = contrast(arm(A), arm(B), ACCURACY, Folds(5, 1 / 4))
    assert found.difference == pytest.approx(d.mean()) and found.df == 4
    assert found.p == pytest.approx(2 * stats.t.sf(d.mean() / se, 4))
    assert found.high - found.difference == pytest.approx(stats.t.ppf(0.975, 4) * se)
    assert found.high90 - found.difference == pytest.approx(stats.t.ppf(0.95, 4) * se)
    assert found.smallest_detectable == pytest.approx((stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)) * se)
    assert found.folds == 5 and found.by_seed == pytest.approx(d)


def test_without_the_correction_it_would_be_the_plain_t_test():
    d = np.array([0.15, 0.05, 0.0, 0.15, 0.15])
    assert float(resampled(d, 0.0).p()) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert float(resampled(d, 0.25).p()) > stats.ttest_1samp(d, 0).pvalue


def test_a_score_with_its_interval_cut_at_the_bounds():
    found = estimate(arm((20, 20, 19, 20, 15)), ACCURACY, Folds(5, 1 / 4))
    assert found.value == pytest.approx(0.94) and found.high == 1.0 and 0.7 < found.low < 0.75


def test_tasks_are_averaged_run_by_run():
    two = {"t": arm(A)["t"], "u": arm(B)["t"]}
    none = {"t": arm(B)["t"], "u": arm(A)["t"]}
    found = contrast(two, none, ACCURACY, Folds(5, 1 / 4))
    assert found.difference == 0 and found.p == 1.0


def test_folds_without_any_variation_leave_open_what_their_units_leave_open():
    found = contrast(arm((20,) * 5), arm((19,) * 5), ACCURACY, Folds(5, 1 / 4))
    assert found.difference == pytest.approx(0.05)
    assert found.low < found.difference < found.high
    coarse = contrast(arm((20,) * 5, units=[0] * 10 + [1] * 10), arm((19,) * 5, units=[0] * 10 + [1] * 10), ACCURACY,
                      Folds(5, 1 / 4))  # fmt: skip
    assert coarse.low < found.low


def test_repetitions_that_settle_and_those_that_never_will():
    clear = resampled(np.array([0.01, 0.03, 0.08, 0.02, 0.11]), 1 / 4)
    count = repetitions_to_settle(clear, Folds(5, 1 / 4))
    spread = 5 * float(clear.seed)

    def half(r):
        return stats.t.ppf(0.975, 5 * r - 1) * np.sqrt(spread * (1 / (5 * r) + 1 / 4))

    assert (
        count is not None and half(count) < float(clear.mean) and (count == 1 or half(count - 1) >= float(clear.mean))
    )
    assert repetitions_to_settle(resampled(np.array([0.1, -0.1, 0.05, -0.04, 0.0]), 1 / 4), Folds(5, 1 / 4)) is None


def test_arms_that_held_out_other_rows_are_refused():
    other = {"t": [*arm(B)["t"][:4], fold(3, 9)]}
    with pytest.raises(UsageError, match="seed number 5, row 0: unit is 9-0, expected 4-0"):
        contrast(arm(A), other, ACCURACY, Folds(5, 1 / 4))


def test_a_metric_that_one_fold_does_not_define():
    runs = arm(A)["t"]
    one = Predictions(runs[4].unit, np.ones(20, int), runs[4].outputs, runs[4].weight)
    with pytest.raises(UsageError, match=r"task 't', run 5: auroc is undefined .* \(classes found: \[1\]\)"):
        estimate({"t": [*runs[:4], one]}, METRICS["auroc"], Folds(5, 1 / 4))


def test_folds_that_share_a_test_set_widen_the_part_of_the_runs():
    d = np.random.default_rng(0).normal(size=(5, 40)) + np.arange(5)[:, None] / 5
    plain, folded = two_way([d]), two_way([d], overlap=1 / 4)
    assert float(folded.seed) == pytest.approx(float(plain.seed) * (1 / 5 + 1 / 4) * 5)
    assert folded.variance > plain.variance
