"""What gives a label away, or a row's origin: single columns, and a simple classifier between two sets of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_ROWS = 5000
_BINS = 50
_NUMBERED = r"^\D{0,20}(\d{1,15})\D{0,3}$"


def auroc(positive: NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve, ties half; nan where one side is empty."""
    ranks = pd.Series(score).rank().to_numpy()
    p, n = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n)) if p and n else float("nan")


def is_id(values: pd.Series) -> bool:
    """Whether nearly every row has a value of its own that is a whole number, or ends in one ("patient-0012")."""
    text = values.dropna().astype(str)
    return len(text) > 20 and text.nunique() > 0.9 * len(text) and bool(text.str.match(_NUMBERED).mean() > 0.95)


def column_auroc(values: pd.Series, labels: pd.Series, units: pd.Series) -> float:
    """How well one column alone ranks the labels: mean over labels of the AUROC of the label's share among rows of
    other units with the same value (numbers, also those at the end of an id: the same stretch of values)."""
    if len(values) > _MOST_ROWS:
        kept = np.sort(np.random.default_rng(0).choice(len(values), _MOST_ROWS, replace=False))
        values, labels, units = (s.iloc[kept] for s in (values, labels, units))
    groups = _groups(values)
    code, names = pd.factorize(units.astype(str))
    half = np.random.default_rng(0).permutation(len(names))[code] % 2
    found = []
    for label in sorted(set(labels)):
        truth = (labels == label).to_numpy()
        score = np.zeros(len(truth))
        for side in (0, 1):
            seen, judged = half != side, half == side
            share = pd.Series(truth[seen]).groupby(groups[seen]).mean()
            score[judged] = pd.Series(groups[judged]).map(share).fillna(truth[seen].mean()).to_numpy()
        found.append(np.nanmean([auroc(truth[half == side], score[half == side]) for side in (0, 1)]))
    return float(np.mean(found))


def _groups(values: pd.Series) -> NDArray[np.intp]:
    """Rows with the same value, or with numbers of the same stretch, have the same number."""
    text = values.astype(str)
    digits = text.str.extract(_NUMBERED, expand=False) if is_id(values) else values
    numbers = pd.to_numeric(digits, errors="coerce")
    if numbers.isna().mean() < 0.05 and numbers.nunique() > _BINS:
        bins = max(2, min(_BINS, len(numbers) // 10))
        return np.asarray(pd.qcut(numbers.rank(method="first"), bins, labels=False).fillna(-1).astype(int), np.intp)
    return np.asarray(pd.factorize(text)[0], np.intp)


@dataclass(frozen=True)
class Difference:
    """How well rows of two sets can be told apart: AUROC (0.5: not at all) on rows held out, its standard error, and
    what speaks most for the second set and for the first."""

    auroc: float
    error: float
    second: tuple[str, ...]
    first: tuple[str, ...]


def difference(first: pd.DataFrame, second: pd.DataFrame, most: int = 2000) -> Difference:
    """Two-sample test by a classifier: logistic regression over words and values (TF-IDF), 5-fold cross-validation.

    Both tables have the same columns; at most `most` rows of each are used. Raises ValueError under 10 rows a side.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    if min(len(first), len(second)) < 10:
        raise ValueError("fewer than 10 rows on one side")
    both = pd.concat([f.sample(min(len(f), most), random_state=0) for f in (first, second)], ignore_index=True)
    origin = np.repeat([0, 1], [min(len(first), most), min(len(second), most)])
    documents = [list(tokens) for tokens in zip(*(_tokens(both[c]) for c in both), strict=True)]
    joined = [[t for cell in row for t in cell] for row in documents]
    vectors = TfidfVectorizer(analyzer=_same, min_df=2, max_features=20_000)
    model = make_pipeline(vectors, LogisticRegression(max_iter=1000, class_weight="balanced"))
    # A row that stands in both tables would else be judged by its twin of the other side.
    twins = pd.factorize(pd.Series(map(" ".join, joined)))[0]
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    score = cross_val_predict(model, joined, origin, groups=twins, cv=folds, method="decision_function")
    area = auroc(origin == 1, score)
    model.fit(joined, origin)
    names, weights = vectors.get_feature_names_out(), model[-1].coef_[0]
    order = np.argsort(weights)
    return Difference(
        area, _error(area, origin), tuple(map(str, names[order[::-1][:5]])), tuple(map(str, names[order[:5]]))
    )


def _same(tokens: list[str]) -> list[str]:
    return tokens


def _tokens(values: pd.Series) -> Iterator[list[str]]:
    """A text's words; of other columns the value, or the tenth of all values that a number lies in."""
    numbers = pd.to_numeric(values, errors="coerce")
    name = values.name
    if numbers.notna().mean() > 0.9:
        tenth = (numbers.rank(pct=True) * 10).fillna(-1).astype(int)
        return ([f"{name} in tenth {t}" if t >= 0 else f"{name} missing"] for t in tenth)
    text = values.fillna("").astype(str)
    if np.mean([len(t.split()) for t in text]) > 2:
        return (part for part in text.str.casefold().str.findall(r"\w+"))
    return ([f"{name} {t}"] for t in text)


def _error(area: float, origin: NDArray[np.int64]) -> float:
    """Standard error of an AUROC (Hanley and McNeil 1982)."""
    n, m = int((origin == 1).sum()), int((origin == 0).sum())
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return float(np.sqrt(max(0.0, area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m)))
