"""Metrics against scikit-learn and against hand-made cases."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from metric_names import ONE_NUMBER
from tunemerge.registry import UnknownNameError
from tunemerge.stats.metrics import METRICS, score


def case(classes, n=400, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)).round(1)  # rounded: some are tied
    logits[np.arange(n), target] += 0.7
    return target, logits, rng.uniform(0.2, 3, n)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(classes, weighted):
    target, logits, weight = case(classes)
    if not weighted:
        weight = np.ones(len(target))
    p, top = softmax(logits, axis=1), logits.argmax(axis=1)
    known = {
        "accuracy": accuracy_score(target, top, sample_weight=weight),
        "macro_f1": f1_score(target, top, average="macro", sample_weight=weight),
        "log_loss": log_loss(target, p, sample_weight=weight),
    }
    if classes == 2:
        # The log odds, rounded: the probability itself breaks ties by rounding noise.
        known["auroc"] = roc_auc_score(target, (logits[:, 1] - logits[:, 0]), sample_weight=weight)
        known["auprc"] = average_precision_score(target, (logits[:, 1] - logits[:, 0]), sample_weight=weight)
        known["brier"] = brier_score_loss(target, p[:, 1], sample_weight=weight)
    else:
        known["auprc"] = average_precision_score(np.eye(classes)[target], p, sample_weight=weight)
        known["brier"] = brier_score_loss(target, p, sample_weight=weight, scale_by_half=True)
        known["auroc"] = roc_auc_score(target, p, sample_weight=weight, multi_class="ovr", average="macro")
    for name, value in known.items():
        assert METRICS[name].fn(target, logits, weight) == pytest.approx(value, abs=1e-10), name


@pytest.mark.parametrize("classes", [2, 4])
def test_calibration_error_by_its_definition(classes):
    target, logits, weight = case(classes)
    logits = logits + np.random.default_rng(1).uniform(0, 0.1, logits.shape)  # off the bins' edges
    p = softmax(logits, axis=1)
    expected = 0.0
    for i in range(15):
        rows = [r for r in range(len(p)) if i / 15 < p[r].max() <= (i + 1) / 15]
        gap = sum(weight[r] * ((p[r].argmax() == target[r]) - p[r].max()) for r in rows)
        expected += abs(gap) / weight.sum()
    assert METRICS["ece"].fn(target, logits, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_a_row_of_weight_k_is_the_row_k_times_and_of_weight_0_not_there(name):
    target, logits, _ = case(3, n=60)
    times = np.random.default_rng(1).integers(0, 4, 60)
    repeated = METRICS[name].fn(np.repeat(target, times), np.repeat(logits, times, axis=0), np.ones(times.sum()))
    assert METRICS[name].fn(target, logits, times.astype(float)) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_many_weightings_at_once_are_the_weightings_one_by_one(name):
    target, logits, _ = case(3, n=50)
    weights = np.random.default_rng(2).uniform(0.1, 1, (7, 50))
    one_by_one = [METRICS[name].fn(target, logits, w) for w in weights]
    np.testing.assert_allclose(METRICS[name].many(target, logits, weights), one_by_one, rtol=1e-12)


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_means_say_what_they_are_means_of(name):
    metric = METRICS[name]
    assert metric.is_mean == (name in {"accuracy", "log_loss", "mae", "brier"})
    if metric.is_mean:
        target, logits, weight = case(3)
        mean = np.average(metric.per_row(target, logits), weights=weight)
        assert metric.fn(target, logits, weight) == pytest.approx(mean, abs=1e-12)


def test_auroc_is_undefined_with_one_class_and_one_half_for_ties():
    ones = np.ones(3)
    assert np.isnan(METRICS["auroc"].fn(np.array([1, 1, 1]), np.zeros((3, 2)), ones))
    assert np.isnan(METRICS["auroc"].fn(np.array([2, 2, 2]), np.zeros((3, 3)), ones))
    assert METRICS["auroc"].fn(np.array([0, 1, 1]), np.zeros((3, 2)), ones) == 0.5


def test_auroc_of_more_classes_is_the_mean_over_those_that_occur():
    target, logits, weight = case(3)
    wider = np.concatenate([logits, np.full((len(target), 1), -50.0)], axis=1)  # a class nobody has
    assert METRICS["auroc"].fn(target, wider, weight) == pytest.approx(METRICS["auroc"].fn(target, logits, weight))


def test_huge_logits_stay_finite_and_ranked():
    logits = np.array([[0.0, 1000.0], [0.0, 1001.0], [1000.0, 0.0]])
    target = np.array([0, 1, 0])
    assert METRICS["log_loss"].fn(target, logits, np.ones(3)) == pytest.approx(1000 / 3)
    assert METRICS["auroc"].fn(target, logits, np.ones(3)) == 1.0


def test_a_score_is_higher_when_better():
    target, logits, weight = case(2)
    assert score(METRICS["log_loss"], target, logits, weight) == -METRICS["log_loss"].fn(target, logits, weight)
    assert score(METRICS["accuracy"], target, logits, weight) == METRICS["accuracy"].fn(target, logits, weight)


def test_an_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'macro_f1'"):
        METRICS["macro-f1"]
