"""The rows of one split as a task sees them: what the model reads, the target, the unit, the weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunemerge.errors import UsageError
from tunemerge.registry import nearest


@dataclass(frozen=True)
class Rows:
    """n rows in file order. `features` are what the kind of task encodes, `target` (n,) int32 indexes the label set, or
    is float64 (n,) or (n, m); `weight` float64 (n,) counts in metrics."""

    features: Any
    target: np.ndarray
    unit: list[str]
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.unit)


def read_table(paths: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """These columns, `unit` and `weight` of `rows.parquet` files (or folders that hold one), one after the other.

    UsageError for a missing file or column (names both), or no rows at all.
    """
    wanted = [*columns, "unit", "weight"]
    parts = [_read(path, wanted) for path in paths]
    if not sum(len(part) for part in parts):
        raise UsageError(f"no rows in {', '.join(map(str, paths)) or 'an empty list of files'}: give at least one row")
    return pa.concat_tables(parts, promote_options="permissive")


def class_targets(table: pa.Table, labels: Sequence[str], paths: Sequence[Path]) -> np.ndarray:
    """The column `label` as indices, int32 (n,). UsageError for a label that is not in `labels` (names the row)."""
    index = {label: i for i, label in enumerate(labels)}
    names = table["label"].to_pylist()
    for row, name in enumerate(names):
        if name not in index:
            near = nearest(str(name), list(labels))
            raise UsageError(f"{_files(paths)}: row {row}: label {name!r} is not in the label set{near}")
    return np.array([index[name] for name in names], np.int32)


def value_targets(table: pa.Table, column: str, paths: Sequence[Path]) -> np.ndarray:
    """A column of numbers, float64 (n,). UsageError for a row without a finite one."""
    values = np.array([np.nan if v is None or isinstance(v, str) else v for v in table[column].to_pylist()], np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise UsageError(f"{_files(paths)}: row {wrong[0]}: {column} is no finite number; leave such rows out")
    return values


def texts(table: pa.Table, column: str, paths: Sequence[Path]) -> list[str]:
    """A column of texts. UsageError for a row without one."""
    found = table[column].to_pylist()
    empty = [row for row, text in enumerate(found) if not isinstance(text, str)]
    if empty:
        raise UsageError(f"{_files(paths)}: row {empty[0]}: no {column}; leave such rows out")
    return list(found)


def rows_from(table: pa.Table, features: Any, target: np.ndarray) -> Rows:
    """Rows with the units and weights of the table."""
    weight = table["weight"].to_numpy().astype(np.float64)
    return Rows(features, target, [str(unit) for unit in table["unit"].to_pylist()], weight)


def _read(path: Path, columns: list[str]) -> pa.Table:
    file = path / "rows.parquet" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file}: no such file; a split is a Parquet file with {', '.join(columns)}")
    table = pq.read_table(file)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UsageError(f"{file}: column {missing[0]!r} is missing; the file has {', '.join(table.column_names)}")
    return table.select(columns)


def _files(paths: Sequence[Path]) -> str:
    return ", ".join(str(path / "rows.parquet" if path.is_dir() else path) for path in paths)
