"""The rows of one split as a task sees them: what the model reads, the target, the unit, the weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tunemerge.errors import UsageError
from tunemerge.registry import nearest


@dataclass(frozen=True)
class Rows:
    """n rows in file order. `target` int32 (n,) indexes the label set, `weight` float64 (n,) counts in metrics."""

    features: list[str]
    target: np.ndarray
    unit: list[str]
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.features)


def read_rows(paths: Sequence[Path], labels: Sequence[str], feature: str) -> Rows:
    """Read and concatenate `rows.parquet` files (or folders that hold one), in the order given.

    UsageError for a missing file or column, no rows at all, or a label that is not in `labels` (names file and row).
    """
    parts = [_read(path, list(labels), feature) for path in paths]
    rows = Rows(
        [text for part in parts for text in part.features],
        np.concatenate([part.target for part in parts]) if parts else np.zeros(0, np.int32),
        [unit for part in parts for unit in part.unit],
        np.concatenate([part.weight for part in parts]) if parts else np.zeros(0),
    )
    if not len(rows):
        raise UsageError(f"no rows in {', '.join(map(str, paths)) or 'an empty list of files'}: give at least one row")
    return rows


def _read(path: Path, labels: list[str], feature: str) -> Rows:
    file = path / "rows.parquet" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file}: no such file; a split is a Parquet file with {feature}, label, unit, weight")
    table = pq.read_table(file)
    missing = [name for name in (feature, "label", "unit", "weight") if name not in table.column_names]
    if missing:
        raise UsageError(f"{file}: column {missing[0]!r} is missing; the file has {', '.join(table.column_names)}")
    index = {label: i for i, label in enumerate(labels)}
    names = table["label"].to_pylist()
    for row, name in enumerate(names):
        if name not in index:
            raise UsageError(f"{file}: row {row}: label {name!r} is not in the label set{nearest(str(name), labels)}")
    return Rows(
        table[feature].to_pylist(),
        np.array([index[name] for name in names], np.int32),
        [str(unit) for unit in table["unit"].to_pylist()],
        table["weight"].to_numpy().astype(np.float64),
    )
