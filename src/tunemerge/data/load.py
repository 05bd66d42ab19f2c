"""Read a table (CSV, JSONL, Parquet) and turn it into rows: text, label, unit, weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.registry import nearest

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda p: pd.read_csv(p, keep_default_na=False, na_values=[""], dtype=object),
    ".tsv": lambda p: pd.read_csv(p, keep_default_na=False, na_values=[""], dtype=object, sep="\t"),
    ".jsonl": lambda p: pd.read_json(p, lines=True, dtype=False, convert_dates=False),
    ".parquet": pd.read_parquet,
}
ROW_COLUMNS = ["text", "label", "unit", "weight"]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what. `labels` renames raw values; `where` keeps rows with these values."""

    text: str
    label: str
    unit: str | None = None
    weight: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)


def read_table(path: Path) -> pd.DataFrame:
    """The table at `path`; values stay as written ('None' and 'NA' are texts). Raises UsageError."""
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    suffix = next((s for s in reversed(path.suffixes) if s in READERS), None)
    if suffix is None:
        raise UsageError(f"{path}: can't tell the format; expected one of {', '.join(READERS)} (also .gz)")
    try:
        return READERS[suffix](path)
    except Exception as e:
        raise UsageError(f"{path}: can't be read as {suffix[1:]}: {e}") from e


def rows_of(table: pd.DataFrame, columns: Columns, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows (columns text, label, unit, weight; index = line in the table) and what is wrong with them.

    A row's unit is its `unit` column, or its text. Rows that can't be used are findings of severity error:
    nothing is dropped silently.
    """
    found: list[Finding] = []
    names = {"text": columns.text, "label": columns.label, "unit": columns.unit, "weight": columns.weight}
    names |= {f"where.{c}": c for c in columns.where}
    for role, column in names.items():
        if column is not None and column not in table.columns:
            hint = nearest(column, [str(c) for c in table.columns])
            found.append(error("no-such-column", f"no column {column!r} (for {role}){hint}", where))
    if found:
        return pd.DataFrame(columns=ROW_COLUMNS), found
    for column, value in columns.where.items():
        kept = table[table[column].astype(str) == str(value)]
        if kept.empty:
            known = sorted({str(v) for v in table[column].unique()})[:20]
            found.append(error("no-rows", f"no row has {column} = {value!r}{nearest(str(value), known)}", where))
        table = kept
    if table.empty:
        return pd.DataFrame(columns=ROW_COLUMNS), found or [error("no-rows", "the table is empty", where)]
    missing = table[table[columns.text].isna() | table[columns.label].isna()]
    if len(missing):
        numbers = ", ".join(str(i + 1) for i in missing.index[:5])
        found.append(
            error("missing-value", f"{len(missing)} rows lack a text or a label (data rows {numbers}, ...)", where,
                  "fill or delete these rows")
        )  # fmt: skip
    label = table[columns.label].astype(str)
    unknown = sorted(set(label) - set(columns.labels)) if columns.labels else []
    if unknown:
        found.append(
            error(
                "unknown-label",
                f"label values {unknown[:8]} are not in the map {dict(columns.labels)}",
                where,
            )
        )
    text = table[columns.text].astype(str)
    # Rows with the same text are one unit: they belong on one side of a split, and are not independent evidence.
    first = pd.Series(table.index, index=table.index).groupby(text.to_numpy()).transform("first")
    weight = pd.to_numeric(table[columns.weight], errors="coerce") if columns.weight else 1.0
    rows = pd.DataFrame(
        {
            "text": text,
            "label": label.map(dict(columns.labels)) if columns.labels else label,
            "unit": table[columns.unit].astype(str) if columns.unit else first.astype(str),
            "weight": weight,
        },
        index=table.index,
    )
    bad = rows[~((rows["weight"] > 0) & (rows["weight"] < math.inf))]
    if len(bad):
        found.append(
            error("bad-weight", f"{len(bad)} weights are not positive numbers (data row {bad.index[0] + 1})", where)
        )
    return rows.astype({"weight": float}), found
