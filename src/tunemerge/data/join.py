"""Several tables as one: rows one below the other, or columns of another table found by a key, maybe over a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tunemerge.data.calendar import parse_span, parse_times
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, note, warning
from tunemerge.registry import listed, nearest

SOURCE = "source"
"""The column that says which table a row is from."""
Codes = NDArray[np.intp]
Summary = Literal["mean", "sum", "min", "max", "std", "last", "count"]


class JoinWindow(BaseModel):
    """Which rows of the other table count: those from `span` before a row's own time up to, not at, that time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str = Field(description="column of the time in the other table", examples=["hour"])
    before: str = Field(description="column of this table's time; what comes at it or later is not read",
                        examples=["visit"])  # fmt: skip
    span: str | None = Field(None, description="how far back; absent: all that came before", examples=["7d"])
    by: list[Summary] = Field(["mean"], min_length=1, description="how the rows of a window become one value",
                              examples=[["mean", "last"]])  # fmt: skip


def _pairs(value: Any) -> Any:
    return {str(c): str(c) for c in value} if isinstance(value, list | tuple) else value


class Join(BaseModel):
    """Columns of another table, found by a key. Without a `window` the key stands there once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str = Field(description="the other table", examples=["days.csv"])
    on: Annotated[dict[str, str], BeforeValidator(_pairs)] = Field(
        min_length=1, description="columns of the key; where they have other names there: this table's to the other's",
        examples=[["patient"], {"patient": "user_id"}],
    )  # fmt: skip
    columns: list[str] = Field([], description="columns that are taken; absent: all others", examples=[["steps"]])
    window: JoinWindow | None = Field(
        None, description="sums up the other table's rows before a time of this one's",
        examples=[{"time": "date", "before": "visit", "span": "7d"}],
    )  # fmt: skip


def pooled(tables: Mapping[str, pd.DataFrame], where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """The rows of several tables one below the other, and a column `source` with the name of each row's table.

    A column that a table lacks is missing in its rows: a warning. Rows that are in two tables are counted.
    """
    found = []
    columns = list(dict.fromkeys(str(c) for t in tables.values() for c in t.columns))
    if SOURCE in columns:
        text = f"a column is called {SOURCE!r} already, where the name of each row's table would stand"
        return pd.DataFrame(), [error("column-twice", text, where, "rename it in the tables")]
    for name, table in tables.items():
        lacks = [c for c in columns if c not in table.columns]
        if lacks:
            text = f"{name} lacks {listed(map(repr, lacks), 5)}: missing values in its {len(table)} rows"
            found.append(warning("column-only-elsewhere", text, where, "name columns alike in all tables"))
    whole = pd.concat([t.assign(**{SOURCE: name}) for name, t in tables.items()], ignore_index=True)
    again = whole.drop(columns=SOURCE).astype(str).duplicated()
    twice = int((again & ~whole.astype(str).duplicated()).sum())
    if twice:
        text = f"{twice} of {len(whole)} rows stand in an earlier table too"
        found.append(warning("rows-twice", text, where, "delete them from one: they would count twice"))
    return whole, found


def joined(table: pd.DataFrame, other: pd.DataFrame, how: Join, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """The table with columns of the other one; its rows stay as they are, in number and order. What has no counterpart
    on either side, and keys that stand twice, are counted."""
    found = _lacking(table, other, how, where)
    taken = how.columns or [c for c in other.columns if c not in _keys(how)]
    both = [c for c in taken if how.window is None and c in table.columns]
    if both:
        fix = f"rename them in {how.table}, or name the `columns` that are taken"
        found.append(error("column-twice", f"{listed(map(repr, both))} in both tables", where, fix))
    if found:
        return table, found
    left, right = _codes(table, other, how.on)
    matched = np.isin(left, right)
    found += _counted(how, where, int((~matched).sum()), len(table), int((~np.isin(right, left)).sum()), len(other))
    if how.window is not None:
        more, problems = _summarised(table, other, left, right, taken, how, how.window, where)
        return pd.concat([table, more], axis=1), found + problems
    again = pd.Series(right).duplicated().to_numpy()
    same = other.astype(str).duplicated().to_numpy()
    if (again & ~same).any():
        row = int(np.flatnonzero(again & ~same)[0]) + 1
        count = int((again & ~same).sum())
        text = f"{count} rows of {how.table} have a key that stands there already, first data row {row}"
        fix = "delete them, add a column to `on`, or sum them up over a `window`"
        return table, [*found, error("join-duplicates", text, where, fix)]
    if again.any():
        text = f"{int(again.sum())} rows of {how.table} stand there twice: once taken"
        found.append(note("join-duplicates", text, where))
    place = pd.Series(np.flatnonzero(~again), index=right[~again]).reindex(left)
    picked = other[taken].reindex(place.to_numpy())
    return pd.concat([table, picked.set_axis(table.index)], axis=1), found


def _keys(how: Join) -> list[str]:
    return [*how.on.values(), *([how.window.time] if how.window else [])]


def _lacking(table: pd.DataFrame, other: pd.DataFrame, how: Join, where: str) -> list[Finding]:
    """Columns that a table should have."""
    wanted = {"": [*how.on, *([how.window.before] if how.window else [])], how.table: [*_keys(how), *how.columns]}
    found = []
    for name, columns in wanted.items():
        there = [str(c) for c in (other if name else table).columns]
        for column in columns:
            if column not in there:
                whose = name or "the table itself"
                text = f"{whose} has no column {column!r}{nearest(column, there)}; it has {listed(there, 20)}"
                found.append(error("no-such-column", text, where))
    return found


def _codes(
    table: pd.DataFrame, other: pd.DataFrame, on: Mapping[str, str]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The key of each row as a number, the same on both sides; keys are compared as texts."""
    sides = ((table, list(on)), (other, list(on.values())))
    texts = [t[columns].astype(str).agg("\x1f".join, axis=1) for t, columns in sides]
    codes = pd.factorize(pd.concat(texts, ignore_index=True))[0]
    return codes[: len(table)], codes[len(table) :]


def _counted(how: Join, where: str, alone: int, rows: int, unused: int, others: int) -> list[Finding]:
    found = []
    if alone:
        text = f"{alone} of {rows} rows have no row in {how.table}: missing values"
        found.append(
            warning("join-unmatched", text, where, "expected where not everybody was measured, else mend `on`")
        )
    if unused:
        found.append(note("join-unused", f"{unused} of {others} rows of {how.table} belong to no row", where))
    return found


def _summarised(
    table: pd.DataFrame,
    other: pd.DataFrame,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    taken: Sequence[str],
    how: Join,
    window: JoinWindow,
    where: str,
) -> tuple[pd.DataFrame, list[Finding]]:
    """A column for every taken one and way of summing up, `steps_mean`, over the rows of each row's window."""
    try:
        own, numeric = parse_times(table[window.before], where)
        theirs, same = parse_times(other[window.time], f"{where}, {how.table}")
        if numeric != same:
            raise UsageError(f"{window.before!r} and {window.time!r} are not both dates, or both numbers")
        span = parse_span(window.span, numeric, "span") if window.span else np.inf
    except UsageError as e:
        return pd.DataFrame(index=table.index), [error("bad-date", str(e), where)]
    numbers = other[list(taken)].apply(pd.to_numeric, errors="coerce")
    text = [c for c in taken if numbers[c].notna().sum() < other[c].notna().sum()]
    if text:
        fix = f"name the columns of numbers: `columns: [{', '.join(c for c in taken if c not in text) or 'NAME'}]`"
        told = f"{listed(map(repr, text))} of {how.table} hold other things than numbers, which no window sums up"
        return pd.DataFrame(index=table.index), [error("not-a-number", told, where, fix)]
    order = np.lexsort((theirs, right))
    keys, times = right[order], theirs[order]
    values = numbers.to_numpy(np.float64)[order]
    out = np.full((len(table), len(taken) * len(window.by)), np.nan)
    empty = 0
    for row, (key, time) in enumerate(zip(left, own, strict=True)):
        first, last = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
        begin = first + np.searchsorted(times[first:last], time - span, "left")
        end = first + np.searchsorted(times[first:last], time, "left")
        empty += begin >= end and last > first
        if begin < end:
            out[row] = [_summary(values[begin:end, i], by) for i in range(len(taken)) for by in window.by]
    names = [f"{c}_{by}" for c in taken for by in window.by]
    found = [error("column-twice", f"{c!r} is in the table already", where) for c in names if c in table.columns]
    if empty:
        text_ = f"{empty} rows have rows in {how.table}, none of them in the window before {window.before!r}"
        found.append(note("join-empty-window", text_, where))
    return pd.DataFrame(out, columns=names, index=table.index), found


def _summary(values: NDArray[np.float64], by: Summary) -> float:
    there = values[~np.isnan(values)]
    if by == "count":
        return float(len(there))
    if not len(there):
        return float("nan")
    if by == "last":
        return float(there[-1])
    return float(getattr(np, by)(there))
