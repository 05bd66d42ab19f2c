"""Simple models on the same columns: logistic and linear regression, gradient-boosted trees (scikit-learn;
LightGBM and CatBoost where they are installed)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.table_fit import Features
from tunemerge.tasks.task import KindControl

# Trees split groups of rows no smaller than this share of all, up to scikit-learn's own 20 rows.
_LEAF_SHARE, _LEAF = 20, 20
_TINY = 1e-6
# Not CatBoost's own 1,000: 10,000 rows of 47 columns took 16 s instead of 81, scikit-learn's trees 1 s.
_CATBOOST_TREES = 300
# Categories of a column that scikit-learn's trees take.
_MOST = 250


def linear(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """Logistic regression for classes, else ridge regression: standardised numbers, medians and flags for missing
    ones, a column a category."""
    known, asked = _standardised(train, rows)
    return _fitted(_linear(train), known, train, asked, spec)


def linear_beside(spec: Spec, train: Rows, rows: Rows, beside: tuple[Any, Any]) -> np.ndarray:
    """The same on these columns beside others that are numbers already, sparse (n, more) of `train` and of `rows`."""
    from scipy.sparse import hstack

    known, asked = (hstack(pair).tocsr() for pair in zip(beside, _standardised(train, rows), strict=True))
    return _fitted(_linear(train), known, train, asked, spec)


def boosted_trees(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """Histogram-based gradient boosting, which reads missing values as they are."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    k, m = train.features.numbers.shape[1], train.features.categories.shape[1]
    kind: Any = HistGradientBoostingClassifier if _classes(train) else HistGradientBoostingRegressor
    model = kind(
        categorical_features=np.repeat([False, True], [k, m]), min_samples_leaf=_leaf(train), random_state=seed
    )
    first, second = _numbered(train.features, rows.features)
    return _fitted(model, first, train, second, spec)


def lightgbm(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """LightGBM as it comes but for smaller leaves of small tables, on the numbers that scikit-learn's trees read."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    k, m = train.features.numbers.shape[1], train.features.categories.shape[1]
    kind: Any = LGBMClassifier if _classes(train) else LGBMRegressor
    model = kind(
        min_child_samples=_leaf(train), random_state=seed, deterministic=True, force_row_wise=True, n_jobs=1,
        verbosity=-1,
    )  # fmt: skip
    first, second = _numbered(train.features, rows.features)
    return _fitted(model, first, train, second, spec, categorical_feature=list(range(k, k + m)))


def catboost(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """CatBoost as it comes but for the number of trees (its learning rate follows that), with categories by name."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    k, m = train.features.numbers.shape[1], train.features.categories.shape[1]
    kind: Any = CatBoostClassifier if _classes(train) else CatBoostRegressor
    model = kind(
        iterations=_CATBOOST_TREES, cat_features=list(range(k, k + m)), random_seed=seed, allow_const_label=True,
        thread_count=1, verbose=False, allow_writing_files=False,
    )  # fmt: skip
    return _fitted(model, _mixed(train), train, _mixed(rows), spec)


def _fitted(model: Any, inputs: Any, train: Rows, asked: Any, spec: Spec, **how: Any) -> np.ndarray:
    """Log probabilities (n, labels), or values (n, 1). Training rows count once, as they do for networks; `how` is for
    the model's `fit`."""
    if not _classes(train):
        return np.asarray(model.fit(inputs, train.target, **how).predict(asked), np.float64)[:, None]
    found = np.full((asked.shape[0], len(spec.labels)), _TINY)
    labels = np.unique(train.target)
    if len(labels) == 1:  # nothing to fit: one site may have seen one class only
        found[:, labels[0]] = 1.0
    else:
        found[:, labels] += model.fit(inputs, train.target, **how).predict_proba(asked)
    return np.asarray(np.log(found / found.sum(axis=1, keepdims=True)), np.float64)


def _classes(train: Rows) -> bool:
    return bool(np.issubdtype(train.target.dtype, np.integer))


def _leaf(train: Rows) -> int:
    return max(2, min(_LEAF, len(train) // _LEAF_SHARE))


def _linear(train: Rows) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeCV

    return LogisticRegression(max_iter=2000) if _classes(train) else RidgeCV(np.logspace(-2, 3, 11))


def _standardised(train: Rows, rows: Rows) -> tuple[Any, Any]:
    """The columns of both as numbers, fitted to training rows."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    k, m = train.features.numbers.shape[1], train.features.categories.shape[1]
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    columns = make_column_transformer(
        (numbers, list(range(k))), (OneHotEncoder(handle_unknown="ignore"), list(range(k, k + m)))
    )
    return columns.fit_transform(_mixed(train)), columns.transform(_mixed(rows))


def _mixed(rows: Rows) -> np.ndarray:
    """Numbers and categories side by side, object (n, k + m); a missing category is one of its own."""
    categories = np.where(rows.features.categories == None, "", rows.features.categories)  # noqa: E711
    return np.concatenate([rows.features.numbers.astype(object), categories], axis=1)


def _numbered(train: Features, rows: Features) -> tuple[np.ndarray, np.ndarray]:
    """Both with categories as numbers, the most frequent of training first; rare ones beyond what trees take, unknown
    and missing ones NaN."""
    out = []
    codes = []
    for column in train.categories.T:
        names, counts = np.unique([v for v in column if v is not None], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_MOST]
        codes.append({str(names[j]): float(i) for i, j in enumerate(order)})
    for part in (train, rows):
        coded = [[code.get(v, np.nan) for v in column] for code, column in zip(codes, part.categories.T, strict=True)]
        extra = np.array(coded, np.float64).T if coded else np.zeros((len(part), 0))
        out.append(np.concatenate([part.numbers, extra], axis=1))
    empty = np.isnan(out[0]).all(axis=0)  # at one site a column may be empty: trees want a value there
    return np.where(empty, 0.0, out[0]), np.where(empty, 0.0, out[1])


# Of the extra "controls", beside scikit-learn's.
EXTRAS = {
    f"{package}{end}": KindControl(run, f"{title} on {which} training rows.", own=own, package=package)
    for package, title, run in (("lightgbm", "LightGBM", lightgbm), ("catboost", "CatBoost", catboost))
    for end, which, own in (("", "all", False), ("_own", "each task's own", True))
}
