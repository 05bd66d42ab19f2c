"""Estimates and contrasts: values known by hand, the metric over rows, the bootstrap, refusals."""

import numpy as np
import pytest
from crossed_draws import crossed_bootstrap

from metric_names import ONE_NUMBER
from tunemerge.errors import UsageError
from tunemerge.stats.components import contrast, estimate
from tunemerge.stats.metrics import METRICS, metrics_of
from tunemerge.stats.predictions import Predictions

ACCURACY = METRICS["accuracy"]


def make(rng, target, unit, weight, skill):
    n, classes = len(target), 3
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), target] += skill
    return Predictions(unit, target, logits, weight)


def study(seed=0, n=300, units=90, seeds=5, skills=(1.2, 0.9), tasks=("x", "y"), weighted=True):
    """Two arms; rows of unequal weight in units of unequal size."""
    rng = np.random.default_rng(seed)
    arms = [{}, {}]
    for task in tasks:
        target = rng.integers(0, 3, n)
        unit = np.array([f"u{min(i, j)}" for i, j in rng.integers(0, units, (n, 2))])
        weight = rng.uniform(0.5, 2, n) if weighted else np.ones(n)
        for arm, skill in zip(arms, skills, strict=True):
            arm[task] = [make(rng, target, unit, weight, skill + 0.1 * rng.normal()) for _ in range(seeds)]
    return arms


def over_rows(arm, metric):
    """[S]: mean over tasks of the score over rows."""
    return metric.sign * np.mean(
        [[metric.fn(p.target, p.outputs, p.weight) for p in seeds] for seeds in arm.values()], axis=0
    )


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_values_are_the_metric_over_rows(name):
    a, b = study()
    metric = METRICS[name]
    one, two = estimate(a, metric), contrast(a, b, metric)
    np.testing.assert_allclose(one.by_seed, over_rows(a, metric), atol=1e-12)
    assert one.value == pytest.approx(over_rows(a, metric).mean(), abs=1e-12)
    np.testing.assert_allclose(two.by_seed, over_rows(a, metric) - over_rows(b, metric), atol=1e-12)
    assert two.difference == pytest.approx(np.mean(two.by_seed), abs=1e-12)
    assert one.low < one.value < one.high
    assert two.low < two.low90 < two.difference < two.high90 < two.high


@pytest.mark.parametrize("name", metrics_of("classes"))
def test_the_better_arm_is_above_whatever_the_metric(name):
    a, b = study(skills=(6.0, 0.5) if name == "ece" else (2.0, 0.8), n=600, units=300)
    two = contrast(a, b, METRICS[name])
    assert two.difference > 0 and two.p < 0.001 and two.probability_a_better == 1 - two.p / 2
    back = contrast(b, a, METRICS[name])
    assert back.difference == pytest.approx(-two.difference)
    assert (back.low, back.high, back.p) == pytest.approx((-two.high, -two.low, two.p))


@pytest.mark.parametrize("name", metrics_of("value"))
def test_the_arm_nearer_to_the_values_is_above(name):
    rng = np.random.default_rng(5)
    target, unit = rng.normal(3, 2, 400), np.array([str(i) for i in range(400)])

    def arm(error):
        noise = rng.normal(0, error, (5, 400, 1))
        return {"t": [Predictions(unit, target, target[:, None] + off, np.ones(400)) for off in noise]}

    a, b = arm(0.5), arm(1.5)
    two, back = contrast(a, b, METRICS[name]), contrast(b, a, METRICS[name])
    assert two.difference > 0 and two.p < 0.001
    assert back.difference == pytest.approx(-two.difference)


def binary(correct, weight=None, unit=None):
    """Predictions of class 1 that are right where `correct` says so."""
    n = len(correct)
    logits = np.zeros((n, 2))
    logits[:, 1] = np.where(correct, 1.0, -1.0)
    unit = np.array([f"{i:06d}" for i in range(n)]) if unit is None else unit
    return Predictions(unit, np.ones(n, int), logits, np.ones(n) if weight is None else weight)


def test_the_variance_by_hand():
    """Two seeds, three units, d = [[1, 0, 0], [1, 1, -1]]: the definitions, one by one."""
    a = {"t": [binary([1, 0, 1]), binary([1, 1, 0])]}
    b = {"t": [binary([0, 0, 1]), binary([0, 0, 1])]}
    d = np.array([[1.0, 0, 0], [1, 1, -1]])
    unit = d.mean(0).var(ddof=1) / 3
    seed = d.mean(1).var(ddof=1) / 2
    left = d - d.mean(0) - d.mean(1)[:, None] + d.mean()
    residual = (left**2).sum() / 2 / 6
    variance = max(unit + seed - residual, unit, seed)
    share = seed / variance
    df = 1 / (share / 1 + (1 - share) / 2)
    two = contrast(a, b, ACCURACY)
    from scipy.stats import t

    assert two.df == pytest.approx(df)
    assert two.high - two.difference == pytest.approx(t.ppf(0.975, df) * variance**0.5)
    assert two.high90 - two.difference == pytest.approx(t.ppf(0.95, df) * variance**0.5)
    assert two.p == pytest.approx(2 * t.sf(two.difference / variance**0.5, df))
    assert two.smallest_detectable == pytest.approx((t.ppf(0.975, df) + t.ppf(0.8, df)) * variance**0.5)


def test_rows_of_one_unit_are_not_independent_evidence():
    rng = np.random.default_rng(3)
    right = [rng.random(100) < 0.7 for _ in range(5)]
    alone = estimate({"t": [binary(r) for r in right]}, ACCURACY)
    unit = np.repeat([f"{i:06d}" for i in range(100)], 4)
    copies = estimate({"t": [binary(np.repeat(r, 4), unit=unit) for r in right]}, ACCURACY)
    as_weight = estimate({"t": [binary(r, weight=np.full(100, 4.0)) for r in right]}, ACCURACY)
    for other in (copies, as_weight):
        assert (other.value, other.low, other.high) == pytest.approx((alone.value, alone.low, alone.high))


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "auroc"])
def test_intervals_agree_with_a_crossed_bootstrap(name):
    a, b = study(seed=4, n=900, units=600, seeds=10)
    two = contrast(a, b, METRICS[name])
    draws = crossed_bootstrap([a, b], METRICS[name], draws=1500, seed=1)
    spread = (draws[0] - draws[1]).std()
    from scipy.stats import t

    error = (two.high - two.difference) / t.ppf(0.975, two.df)
    # The crossed bootstrap errs on the wide side: it counts the residual up to three times.
    assert 0.75 < error / spread < 1.15


@pytest.mark.parametrize("skills", [(1.2, 0.9), (0.9, 1.2), (1.0, 0.99)])
def test_the_confidence_agrees_with_the_interval(skills):
    """With three seeds draws of seeds were above 0.999 beside an interval that held 0: the two must say the same."""
    for seed in range(6):
        a, b = study(seed=seed, seeds=3, skills=skills)
        two, back = contrast(a, b, ACCURACY), contrast(b, a, ACCURACY)
        assert (two.probability_a_better > 0.975) == (two.low > 0)
        assert (two.probability_a_better < 0.025) == (two.high < 0)
        assert back.probability_a_better == pytest.approx(1 - two.probability_a_better)


def test_an_arm_and_its_double_are_even():
    a, _ = study()
    two = contrast(a, a, ACCURACY)
    assert two.probability_a_better == 0.5
    assert (two.difference, two.low, two.high, two.p) == (0, 0, 0, 1)
    assert two.seeds_to_settle is None


def test_no_variation_seen_is_not_no_variation():
    """20 of 20 right: Clopper-Pearson's lower bound. Always 1 apart on 20 units: no certainty either."""
    right, wrong = {"t": [binary([1] * 20)] * 5}, {"t": [binary([0] * 20)] * 5}
    one = estimate(right, ACCURACY)
    assert (one.low, one.high) == pytest.approx((0.025 ** (1 / 20), 1.0))
    two = contrast(right, wrong, ACCURACY)
    assert 0 < two.low < two.difference == 1 and 0 < two.p < 1e-5
    few = contrast({"t": [binary([1] * 3)] * 5}, {"t": [binary([0] * 3)] * 5}, ACCURACY)
    assert few.low < 0 and few.p > 0.05


def test_one_seed_covers_units_alone_and_says_so():
    a, b = study(seeds=1)
    one, two = estimate(a, ACCURACY), contrast(a, b, ACCURACY)
    assert not one.covers_seeds and not two.covers_seeds and two.seeds_to_settle is None
    assert one.low < one.value < one.high
    many = contrast(*study(seeds=2), ACCURACY)
    assert many.covers_seeds


def test_an_interval_stays_within_what_the_metric_can_be():
    rng = np.random.default_rng(5)
    one = estimate({"t": [binary(rng.random(30) < 0.98) for _ in range(5)]}, ACCURACY)
    assert one.high == 1.0 and one.low < one.value
    a, _ = study()
    assert estimate(a, METRICS["log_loss"]).high < 0  # a score: negated


def test_seeds_that_settle_a_difference():
    a, b = study(seed=1, n=4000, units=4000, seeds=3, skills=(1.0, 0.97), tasks=("x",))
    two = contrast(a, b, ACCURACY)
    assert two.p > 0.05 and two.seeds_to_settle is not None and two.seeds_to_settle > 5
    settled = contrast(*study(skills=(2.0, 0.5)), ACCURACY)
    assert settled.seeds_to_settle == 5
    # Seeds that all agree, on a handful of units: only more units would help.
    rng = np.random.default_rng(6)
    right = [rng.random(40) < q for q in (0.75, 0.7)]
    same = contrast({"t": [binary(right[0])] * 5}, {"t": [binary(right[1])] * 5}, ACCURACY)
    assert same.p > 0.05 and same.seeds_to_settle is None


def test_order_of_rows_and_tasks_does_not_matter():
    a, b = study()
    order = np.random.default_rng(0).permutation(300)

    def shuffled(arm):
        return {
            task: [Predictions(p.unit[order], p.target[order], p.outputs[order], p.weight[order]) for p in arm[task]]
            for task in reversed(list(arm))
        }

    for name in ("accuracy", "auroc"):
        one = contrast(a, b, METRICS[name])
        two = contrast(shuffled(a), shuffled(b), METRICS[name])
        assert (one.difference, one.low, one.p) == pytest.approx((two.difference, two.low, two.p))


def test_other_rows_other_seeds_other_tasks_are_refused():
    a, b = study()
    p = b["y"][2]
    swapped = p.unit.copy()
    swapped[[4, 5]] = ["v", "w"]
    moved = {**b, "y": [*b["y"][:2], Predictions(swapped, p.target, p.outputs, p.weight), *b["y"][3:]]}
    with pytest.raises(UsageError, match=r"task 'y', seed number 3, row 4: unit is v, expected u"):
        contrast(a, moved, ACCURACY)
    with pytest.raises(UsageError, match="same seeds; found \\[4, 5\\]"):
        contrast(a, {**b, "x": b["x"][:4]}, ACCURACY)
    with pytest.raises(UsageError, match="different tasks"):
        contrast(a, {"x": b["x"]}, ACCURACY)
    short = Predictions(p.unit[:-1], p.target[:-1], p.outputs[:-1], p.weight[:-1])
    with pytest.raises(UsageError, match="299 rows; expected the first seed's 300"):
        estimate({"y": [b["y"][0], short]}, ACCURACY)
    with pytest.raises(UsageError, match="no tasks"):
        estimate({}, ACCURACY)


def test_one_unit_and_undefined_metrics_are_refused():
    unit = np.array(["p1"] * 5)
    with pytest.raises(UsageError, match="task 't': all test rows belong to one unit"):
        estimate({"t": [binary([1, 0, 1, 0, 1], unit=unit)] * 5}, ACCURACY)
    with pytest.raises(UsageError, match=r"auroc is undefined .* \(classes found: \[1\]\)"):
        estimate({"t": [binary([1, 0, 1, 0, 1])] * 5}, METRICS["auroc"])
