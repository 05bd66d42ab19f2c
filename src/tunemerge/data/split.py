"""Splits by seed and by fold: the test set is drawn once and frozen, the other splits vary with the seed or fold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from tunemerge.errors import UsageError

NAMES = ("test", "validation", "adapt", "source")
# What a fold leaves for validation, of all rows, where nobody says.
VALIDATION = 0.1


def make_splits(rows: pd.DataFrame, sizes: Mapping[str, float], seed: int, name: str) -> dict[str, pd.DataFrame]:
    """Split rows into test, validation, adapt and source, stratified by label; a unit is never divided.

    `sizes`: a fraction of all rows (below 1) or a number of rows (1 and more), for each split wanted. The test set
    depends on `name` alone; the other splits also on `seed`. Raises UsageError when the rows don't suffice.
    """
    wanted = {k: _count(sizes[k], len(rows)) for k in NAMES if k in sizes}
    if sum(wanted.values()) > len(rows):
        raise UsageError(f"{name}: splits ask for {sum(wanted.values())} rows ({wanted}), there are {len(rows)}")
    rest, out = rows, {}
    for split, n in wanted.items():
        salt = f"{name}/{split}" if split == "test" else f"{name}/{split}/{seed}"
        out[split], rest = _take(rest, n, salt)
    return out


def frozen_rows(rows: pd.DataFrame, size: float | None, name: str) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """The frozen test set (None where no size is given), the same as that of `make_splits`, and the rest."""
    if size is None:
        return None, rows
    return _take(rows, _count(size, len(rows)), f"{name}/test")


def fold_of(rows: pd.DataFrame, folds: int, repetition: int, name: str) -> np.ndarray:
    """The fold (0, 1, ...) of each row, int64 (n,). Units stay whole; labels and sizes are as even as they allow.

    Each unit in a random order goes to the fold with the fewest rows of its label, of these to the smallest. Raises
    UsageError with fewer units than folds.
    """
    first = rows.drop_duplicates("unit")
    if len(first) < folds:
        raise UsageError(f"{name}: {len(first)} units can't be dealt to {folds} folds")
    rng = _rng(f"{name}/folds/{folds}/{repetition}")
    sizes = rows["unit"].value_counts()
    order = rng.permutation(len(first))
    # Large units first: what comes last evens out what came before.
    order = order[np.argsort(-sizes.reindex(first["unit"]).to_numpy()[order], kind="stable")]
    names, labels = first["unit"].to_numpy()[order], strata_of(first).to_numpy()[order]
    total = np.zeros(folds)
    by_label = {label: np.zeros(folds) for label in set(labels)}
    home = {}
    for unit, label, n in zip(names, labels, sizes.reindex(names), strict=True):
        fold = int(np.lexsort((total, by_label[label]))[0])
        home[unit] = fold
        by_label[label][fold] += n
        total[fold] += n
    return rows["unit"].map(home).to_numpy(np.int64)


def inner_splits(
    rest: pd.DataFrame, sizes: Mapping[str, float], total: int, run: str, name: str
) -> dict[str, pd.DataFrame]:
    """Validation, adapt and source rows out of what a fold leaves; `run` names repetition and fold.

    Fractions are of `total` rows; without an own size validation has a tenth of these, and adapt takes what is left.
    Raises UsageError when the rows don't suffice.
    """
    asked = {"validation": VALIDATION, **{k: v for k, v in sizes.items() if k != "test"}}
    wanted = {k: _count(asked[k], total) for k in ("validation", "source", "adapt") if k in asked}
    needed = sum(wanted.values()) + ("adapt" not in wanted)
    if needed > len(rest):
        raise UsageError(f"{name}: splits ask for {needed} rows ({wanted}), a fold leaves {len(rest)} of {total}")
    out: dict[str, pd.DataFrame] = {}
    for key, n in wanted.items():
        out[key], rest = _take(rest, n, f"{name}/{key}/{run}")
    return out if "adapt" in out else {**out, "adapt": rest}


def strata_of(rows: pd.DataFrame) -> pd.Series:
    """What every split should have its share of: the label, or the quarter that a value is in; rows of tasks without
    either are all alike."""
    if "label" in rows:
        return rows["label"]
    if "value" in rows and len(rows) > 1:
        return pd.cut(rows["value"].rank(method="average", pct=True), 4, labels=False).astype(str)
    return pd.Series("", index=rows.index)


def _count(size: float, total: int) -> int:
    return round(size * total) if size < 1 else int(size)


def _rng(salt: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "little"))


def _take(rows: pd.DataFrame, n: int, salt: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """About n rows in whole units, each label in its share, and the rest; both in the order of `rows`."""
    first = rows.drop_duplicates("unit")
    rng = _rng(salt)
    units = first["unit"].to_numpy()
    # Shuffle, then order by the unit's relative rank within its label: every prefix is stratified.
    order = rng.permutation(len(units))
    shuffled = pd.Series(strata_of(first).to_numpy()[order])
    rank = (shuffled.groupby(shuffled).cumcount() + 0.5) / shuffled.groupby(shuffled).transform("size")
    ordered = units[order][np.argsort(rank.to_numpy(), kind="stable")]
    sizes = rows["unit"].value_counts().reindex(ordered).to_numpy().cumsum()
    taken = (
        rows["unit"].isin(set(ordered[: int(np.searchsorted(sizes, n, side="left")) + 1]))
        if n
        else (pd.Series(False, index=rows.index))
    )
    return rows[taken], rows[~taken]
