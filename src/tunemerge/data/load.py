"""Read a table (CSV, JSONL, Parquet) and turn it into rows: text, label, unit, weight."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tunemerge.data.delimited import read_delimited
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.registry import listed, nearest

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda p: read_delimited(p, ","),
    ".tsv": lambda p: read_delimited(p, "\t"),
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
    except UsageError:
        raise
    except Exception as e:
        raise UsageError(f"{path}: can't be read as {suffix[1:]}: {e}") from e


def rows_of(table: pd.DataFrame, columns: Columns, where: str, remedy: str = "") -> tuple[pd.DataFrame, list[Finding]]:
    """Rows (columns text, label, unit, weight; index = line in the table) and what is wrong with them.

    A row's unit is its `unit` column, or its text. Rows that can't be used are findings of severity error:
    nothing is dropped silently. `remedy` says how to name a column, with {role} for which.
    """
    found = _column_findings(table, columns, where, remedy)
    if found:
        return pd.DataFrame(columns=ROW_COLUMNS), found
    for column, value in columns.where.items():
        kept = table[table[column].astype(str) == str(value)]
        if kept.empty and len(table):
            known = sorted({str(v) for v in table[column].unique()})[:20]
            found.append(error("no-rows", f"no row has {column} = {value!r}{nearest(str(value), known)}", where))
        table = kept
    if table.empty:
        return pd.DataFrame(columns=ROW_COLUMNS), found or [error("no-rows", "the table is empty", where)]
    found += _missing(table, columns, where)
    label = table[columns.label].astype(str)
    unknown = sorted(set(label) - set(columns.labels)) if columns.labels else []
    if unknown:
        close = nearest(unknown[0], list(map(str, columns.labels)))
        hint = close if "mean" in close else f"; it has {listed(columns.labels)}"
        message = f"label values that `labels` does not name: {listed(map(repr, unknown))}{hint}"
        found.append(error("unknown-label", message, where, "add them to `labels:`, raw value to label name"))
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


def labelled_rows(path: str | Path, columns: Columns) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one file, as of `rows_of`, and their labels, sorted. Raises UsageError with all that is wrong."""
    remedy = "use --{role} NAME (in Python {role}='NAME')"
    rows, findings = rows_of(read_table(Path(path)), columns, str(path), remedy)
    refuse_errors(findings)
    return rows, sorted(set(rows["label"]))


def _column_findings(table: pd.DataFrame, columns: Columns, where: str, remedy: str) -> list[Finding]:
    """Columns that aren't there, or twice."""
    names = {"text": columns.text, "label": columns.label, "unit": columns.unit, "weight": columns.weight}
    names |= {f"where.{c}": c for c in columns.where}
    known = [str(c) for c in table.columns]
    if not known:
        return [error("no-rows", "the table is empty", where)]
    found = []
    for role, column in names.items():
        fix = remedy.format(role=role) if "." not in role else ""
        if column is not None and column not in known:
            close = difflib.get_close_matches(column, known, n=1, cutoff=0.75)
            hint = f" did you mean {close[0]!r}?" if close else ""
            text = f"no column {column!r} (for {role});{hint} the columns are: {listed(known, 20)}"
            found.append(error("no-such-column", text, where, fix))
        elif column is not None and known.count(column) > 1:
            text = f"{known.count(column)} columns are called {column!r} (for {role})"
            found.append(error("column-twice", text, where, "give them different names in the header"))
    return found


def _missing(table: pd.DataFrame, columns: Columns, where: str) -> list[Finding]:
    needed = [columns.text, columns.label, *([columns.unit] if columns.unit else [])]
    rows = table.index[table[needed].isna().any(axis=1)]
    if rows.empty:
        return []
    what = "a text, a label or a unit" if columns.unit else "a text or a label"
    text = f"{len(rows)} rows lack {what} (data rows {listed((i + 1 for i in rows), 5)})"
    return [error("missing-value", text, where, "fill or delete these rows")]
