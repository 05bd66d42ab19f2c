"""Read a table (CSV, JSONL, Parquet; a text is one row) and turn it into rows: a kind's own columns, unit, weight."""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tunemerge.data.delimited import read_delimited
from tunemerge.data.images import read_image_folder, read_npz
from tunemerge.data.plain_text import read_text
from tunemerge.data.saved_sets import is_saved_set, read_saved_set
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.registry import listed, nearest

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda p: read_delimited(p, ","),
    ".tsv": lambda p: read_delimited(p, "\t"),
    ".jsonl": lambda p: pd.read_json(p, lines=True, dtype=False, convert_dates=False),
    ".parquet": pd.read_parquet,
    ".txt": read_text,
    ".npz": read_npz,
}
FOLDER = "folder"
"""The attribute of a table that says where it lies: paths in its cells are relative to that."""

HARNESS = "lm-eval:"

Convert = Callable[[pd.DataFrame], tuple[pd.DataFrame, list[Finding]]]
"""From a table with all columns to a kind's own columns of rows, and what is wrong with them."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what. `own` are those of the kind of task, by what they are to it; those in
    `required` may not be empty. `where` keeps rows with these values."""

    own: Mapping[str, str]
    required: frozenset[str]
    unit: str | None = None
    weight: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)


def table_path(folder: Path, file: str) -> Path:
    """Where a table lies that is named relative to `folder`; $NAME in it stands for an environment variable."""
    return folder / Path(os.path.expandvars(file)).expanduser()


def read_table(path: Path) -> pd.DataFrame:
    """The table at `path`; values stay as written ('None' and 'NA' are texts). Raises UsageError.

    A folder is a saved data set, or one of images, a folder a class; `lm-eval:NAME` is a task of the harness, which its
    kind reads.
    """
    if path.name.startswith(HARNESS):
        return _placed(pd.DataFrame({"task": [path.name.removeprefix(HARNESS)]}), path.parent)
    if not path.exists():
        unset = re.search(r"\$\{?(\w+)\}?/", str(path))
        why = f"the environment variable {unset[1]} is not set" if unset else "no such file"
        raise UsageError(f"{path}: {why}")
    if path.is_dir():
        return _placed(read_saved_set(path) if is_saved_set(path) else read_image_folder(path), path)
    suffix = next((s for s in reversed(path.suffixes) if s in READERS), None)
    if suffix is None:
        raise UsageError(f"{path}: can't tell the format; expected one of {', '.join(READERS)} (also .gz)")
    try:
        return _placed(READERS[suffix](path), path.parent)
    except UsageError:
        raise
    except Exception as e:
        raise UsageError(f"{path}: can't be read as {suffix[1:]}: {e}") from e


def _placed(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    table.attrs[FOLDER] = str(folder)
    return table


def content_of(rows: pd.DataFrame, target: Sequence[str]) -> pd.Series:
    """What a model reads of each row, as one text: equal where all inputs are."""
    inputs = [c for c in rows.columns if c not in (*target, "unit", "weight")]
    if len(inputs) == 1 and pd.api.types.is_string_dtype(rows[inputs[0]]):
        return rows[inputs[0]].astype(str)
    values = [rows[c].map(lambda v: v if isinstance(v, bytes) else repr(v).encode()) for c in inputs]
    joined = [hashlib.sha256(b"\x1f".join(cells)).hexdigest() for cells in zip(*values, strict=True)]
    return pd.Series(joined, index=rows.index, dtype=object)


def rows_of(
    table: pd.DataFrame, columns: Columns, convert: Convert, target: Sequence[str], where: str, remedy: str = ""
) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows (what `convert` makes, unit, weight; index = line in the table) and what is wrong with them.

    A row's unit is its `unit` column, or what `convert` says (a column `unit`), or what a model reads of it (all but
    `target`). Rows that can't be used are
    findings of severity error: nothing is dropped silently. `remedy` says how to name a column, with {role} for which.
    """
    found = _column_findings(table, columns, where, remedy)
    if found:
        return pd.DataFrame(), found
    for column, value in columns.where.items():
        kept = table[table[column].astype(str) == str(value)]
        if kept.empty and len(table):
            known = sorted({str(v) for v in table[column].unique()})[:20]
            found.append(error("no-rows", f"no row has {column} = {value!r}{nearest(str(value), known)}", where))
        table = kept
    if table.empty:
        return pd.DataFrame(), found or [error("no-rows", "the table is empty", where)]
    found += _missing(table, columns, where)
    rows, more = convert(table)
    found += more
    # Rows with the same inputs are one unit: they belong on one side of a split, and are not independent evidence.
    first = pd.Series(rows.index, index=rows.index).groupby(content_of(rows, target).to_numpy()).transform("first")
    # A row may be made of several lines of the table: what is said of it is said in the line whose index it has.
    own = table.loc[rows.index]
    weight = pd.to_numeric(own[columns.weight], errors="coerce") if columns.weight else 1.0
    unit = (own[columns.unit] if columns.unit else rows.get("unit", first)).astype(str)
    rows = rows.assign(unit=unit, weight=weight)
    bad = rows[~((rows["weight"] > 0) & (rows["weight"] < math.inf))]
    if len(bad):
        found.append(
            error("bad-weight", f"{len(bad)} weights are not positive numbers (data row {bad.index[0] + 1})", where)
        )
    return rows.astype({"weight": float}), found


def _column_findings(table: pd.DataFrame, columns: Columns, where: str, remedy: str) -> list[Finding]:
    """Columns that aren't there, or twice."""
    names = {**columns.own, "unit": columns.unit, "weight": columns.weight}
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
    needed = {role: columns.own[role] for role in columns.own if role in columns.required}
    needed |= {"unit": columns.unit} if columns.unit else {}
    rows = table.index[table[list(needed.values())].isna().any(axis=1)]
    if rows.empty:
        return []
    *first, last = (f"a {role}" for role in needed)
    what = f"{', '.join(first)} or {last}" if first else last
    text = f"{len(rows)} rows lack {what} (data rows {listed((i + 1 for i in rows), 5)})"
    return [error("missing-value", text, where, "fill or delete these rows")]
