"""Simple models on words and pairs of words (TF-IDF, scikit-learn): what a text's words alone tell, no checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.text_model import joined

# As strongly regularised as words want it: a text has few of very many.
_C = 10.0
# What a label gets that no training row has, so that its logit is finite.
_UNSEEN = 1e-6


def ridge(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """Ridge regression, its strength chosen by leave-one-out: values (n, 1)."""
    from sklearn.linear_model import RidgeCV

    known, asked = words(train, rows)
    model = RidgeCV(np.logspace(-1, 2, 7)).fit(known, train.target, sample_weight=train.weight)
    return np.asarray(model.predict(asked), np.float64)[:, None]


def logistic(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """Logistic regression: log probabilities (n, labels)."""
    from sklearn.linear_model import LogisticRegression

    found = np.full((len(rows), len(spec.labels)), _UNSEEN)
    labels = np.unique(train.target)
    if len(labels) == 1:  # nothing to tell apart
        found[:, labels[0]] = 1.0
    else:
        known, asked = words(train, rows)
        model = LogisticRegression(C=_C, max_iter=1000).fit(known, train.target, sample_weight=train.weight)
        found[:, labels] += model.predict_proba(asked)
    return np.asarray(np.log(found / found.sum(axis=1, keepdims=True)), np.float64)


def logistic_each(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """A logistic regression for each label: logits (n, labels)."""
    from sklearn.linear_model import LogisticRegression

    known, asked = words(train, rows)
    outputs = np.empty((len(rows), len(spec.labels)))
    for column, target in enumerate(train.target.T):
        if target.min() == target.max():  # nothing to tell apart: its share, with half a row more on each side
            share = (target.sum() + 0.5) / (len(target) + 1)
            outputs[:, column] = np.log(share / (1 - share))
        else:
            model = LogisticRegression(C=_C, max_iter=1000)
            outputs[:, column] = model.fit(known, target, sample_weight=train.weight).decision_function(asked)
    return outputs


def words(train: Rows, rows: Rows) -> tuple[Any, Any]:
    """Sparse (n, words) of both; the words and how rare they are come from training."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return counts.fit_transform(joined(train)), counts.transform(joined(rows))
