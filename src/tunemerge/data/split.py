"""Splits by seed: the test set is drawn once and frozen, the other splits vary with the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from tunemerge.errors import UsageError

NAMES = ("test", "validation", "adapt", "source")


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


def _count(size: float, total: int) -> int:
    return round(size * total) if size < 1 else int(size)


def _take(rows: pd.DataFrame, n: int, salt: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """About n rows in whole units, each label in its share, and the rest; both in the order of `rows`."""
    first = rows.drop_duplicates("unit")
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "little"))
    units = first["unit"].to_numpy()
    # Shuffle, then order by the unit's relative rank within its label: every prefix is stratified.
    order = rng.permutation(len(units))
    shuffled = pd.Series(first["label"].to_numpy()[order])
    rank = (shuffled.groupby(shuffled).cumcount() + 0.5) / shuffled.groupby(shuffled).transform("size")
    ordered = units[order][np.argsort(rank.to_numpy(), kind="stable")]
    sizes = rows["unit"].value_counts().reindex(ordered).to_numpy().cumsum()
    taken = (
        rows["unit"].isin(set(ordered[: int(np.searchsorted(sizes, n, side="left")) + 1]))
        if n
        else (pd.Series(False, index=rows.index))
    )
    return rows[taken], rows[~taken]
