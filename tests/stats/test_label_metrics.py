"""Metrics of several labels a row, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tunemerge.stats.metrics import METRICS


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    target = (rng.random((300, 4)) < [0.1, 0.3, 0.5, 0.8]).astype(float)
    return target, rng.normal(size=target.shape).round(1) + target - 0.45, rng.uniform(0.2, 3, 300)


def test_agree_with_scikit_learn(case):
    target, logits, weight = case
    predicted = logits > 0
    known = {
        "micro_f1": f1_score(target, predicted, average="micro", sample_weight=weight),
        "label_f1": f1_score(target, predicted, average="macro", sample_weight=weight),
        "label_auroc": roc_auc_score(target, logits, average="macro", sample_weight=weight),
    }
    for name, value in known.items():
        assert METRICS[name].fn(target, logits, weight) == pytest.approx(value, abs=1e-10), name


def test_by_hand():
    target = np.array([[1.0, 0.0], [0.0, 0.0]])
    logits = np.array([[2.0, -1.0], [0.5, -1.0]])
    one = np.ones(2)
    assert METRICS["exact_labels"].fn(target, logits, one) == 0.5
    terms = [np.log1p(np.exp(x)) for x in (-2.0, -1.0, 0.5, -1.0)]
    assert METRICS["label_log_loss"].fn(target, logits, one) == pytest.approx(np.mean(terms), abs=1e-12)
    assert METRICS["micro_f1"].fn(target, logits, one) == pytest.approx(2 / 3)


def test_undefined_without_any_label():
    target, logits = np.zeros((3, 2)), -np.ones((3, 2))
    for name in ("micro_f1", "label_f1", "label_auroc"):
        assert np.isnan(METRICS[name].fn(target, logits, np.ones(3)))
