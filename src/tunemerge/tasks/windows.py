"""From a long table (series, time, value) to windows: what was known when a forecast is made, and what came.

A window belongs to the table's line at which its forecast is made, the last line that it reads. Windows of one series
share values, so rows carry when they begin to look ahead (`time`) and when their answer is known (`known`): splits by
time and the check for look-ahead read these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tunemerge.data.calendar import parse_span, parse_times
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.registry import listed
from tunemerge.tasks.columns import value_column
from tunemerge.tasks.task import Source

Floats = NDArray[np.float64]

_DAY = 86400.0
# Steps longer than this times the usual one are gaps; markets that close at weekends and on holidays have none up to
# a week.
_GAP, _WEEK = 1.5, 7 * _DAY


class SeriesOptions(BaseModel):
    """A long table: a line for every series and time, in the order of time within a series."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    series: str = Field("series", description="column that names the series", examples=["ticker"])
    time: str = Field("time", description="column of the date (ISO 8601), or number", examples=["date"])
    value: str = Field("value", description="column to forecast", examples=["close"])
    channels: list[str] = Field(
        [], description="columns of numbers that are read beside the value", examples=[["volume"]]
    )
    context: int = Field(36, ge=2, description="how many values a forecast is made from", examples=[48])
    horizon: int = Field(1, ge=1, description="how many steps ahead", examples=[18])
    longest_step: str | None = Field(
        None, description="the longest step from one time of a series to the next; a longer one is a gap; absent: 1.5 "
        "times the usual step, and a week where no date falls on a weekend", examples=["10d"],
    )  # fmt: skip


@dataclass(frozen=True)
class Windows:
    """m windows. `at` (m,) are the lines (index of the table) at which forecasts are made, `context` (m, L, 1 +
    channels) the values up to there, `future` (m, h) those that came; `past` (m,) is the mean absolute difference of
    values `season` apart in all that the series had been. `time`, `known` (m,) as numbers: when a forecast is made,
    and when its last value came."""

    at: pd.Index
    context: Floats
    future: Floats
    past: Floats
    time: Floats
    known: Floats
    series: NDArray[Any]
    dates: bool


def series_source(options: SeriesOptions) -> Source:
    """The columns that are read; none may be empty."""
    named = {"series": options.series, "time": options.time, "value": options.value}
    columns = {**named, **{f"channels.{i}": c for i, c in enumerate(options.channels)}}
    return Source(columns, frozenset(columns))


def cut_windows(
    table: pd.DataFrame, options: SeriesOptions, where: str, stride: int = 1, season: int = 1
) -> tuple[Windows | None, list[Finding]]:
    """The windows of every series, or what is wrong with its rows. `stride`: from one forecast of a series to the
    next, in times of the table back from its end, so that series of one calendar are forecast on the same days."""
    found: list[Finding] = []
    columns = []
    for name in (options.value, *options.channels):
        numbers, wrong = value_column(table[name], name, where)
        columns.append(numbers.to_numpy(np.float64))
        found += wrong
    try:
        times, numeric = parse_times(table[options.time], where)
    except UsageError as e:
        return None, [*found, error("bad-date", str(e), where, "mend or delete these rows")]
    codes, uniques = pd.factorize(table[options.series].astype(str))
    names = np.asarray(uniques, object)
    found += _order(table, options, times, codes, names, numeric, where)
    if found:
        return None, found
    calendar = np.unique(times)
    # The last forecast whose answer is in the table is always made.
    clock = len(calendar) - 1 - options.horizon - np.searchsorted(calendar, times)
    values = np.stack(columns, axis=1)
    parts = [
        _of_series(np.flatnonzero(codes == code), clock, values, options, stride, season) for code in range(len(names))
    ]
    at = np.concatenate([p[0] for p in parts])
    if not len(at):
        longest = int(np.bincount(codes).max())
        text = (
            f"no series has {options.context + options.horizon} rows for a window (context {options.context}, horizon "
            f"{options.horizon}); the longest has {longest}"
        )
        return None, [error("too-short", text, where, "shorten `context` or `horizon`, or give longer series")]
    return Windows(
        at=table.index[at],
        context=np.concatenate([p[1] for p in parts]),
        future=np.concatenate([p[2] for p in parts]),
        past=np.concatenate([p[3] for p in parts]),
        time=times[at],
        known=times[np.concatenate([p[4] for p in parts])],
        series=names[codes[at]],
        dates=not numeric,
    ), []


def _of_series(
    rows: NDArray[np.intp], clock: NDArray[np.intp], values: Floats, options: SeriesOptions, stride: int, season: int
) -> tuple[NDArray[np.intp], Floats, Floats, Floats, NDArray[np.intp]]:
    """Lines of the forecasts, contexts, futures, past differences, and lines of the last values that came."""
    own, n = values[rows], len(rows)
    last = np.arange(options.context - 1, n - options.horizon)
    last = last[clock[rows[last]] % stride == 0]
    context = own[last[:, None] + np.arange(1 - options.context, 1)]
    future = own[:, 0][last[:, None] + np.arange(1, options.horizon + 1)]
    differences = np.abs(own[season:, 0] - own[:-season, 0]) if n > season else np.zeros(0)
    total = np.concatenate([[0.0], np.cumsum(differences)])
    count = last + 1 - season
    past = total[np.maximum(count, 0)] / np.maximum(count, 1)
    return rows[last], context, future, past, rows[last + options.horizon]


def _order(
    table: pd.DataFrame,
    options: SeriesOptions,
    times: Floats,
    codes: NDArray[np.intp],
    names: NDArray[Any],
    numeric: bool,
    where: str,
) -> list[Finding]:
    """Times that go back, come twice or leave gaps within a series."""
    order = np.argsort(codes, kind="stable")
    same = np.diff(codes[order]) == 0
    step = np.where(same, np.diff(times[order]), np.nan)

    def told(places: NDArray[np.intp], shown: int = 3) -> str:
        def one(place: int) -> str:
            before, row = (table.index[order[p]] for p in (place, place + 1))
            cells = f"{table[options.time][row]!r} after {table[options.time][before]!r}"
            return f"data row {row + 1} of {names[codes[order[place]]]!r}: {cells}"

        return listed([one(int(p)) for p in places[:shown]] + ["..."] * max(0, len(places) - shown), shown)

    found = []
    twice = table.index[pd.DataFrame({"series": codes, "time": times}).duplicated().to_numpy()]
    if len(twice):
        first = twice[0]
        text = (
            f"{len(twice)} rows have a series and time that an earlier row has, first data row {first + 1}: "
            f"{table[options.series][first]!r} at {table[options.time][first]!r}"
        )
        fix = f"keep one row for each {options.series!r} and {options.time!r}"
        found.append(error("time-twice", text, where, fix))
    back = np.flatnonzero(step < 0)
    if len(back):
        text = f"{options.time!r} goes back in {len(back)} rows: {told(back)}"
        fix = f"sort the table by {options.series!r} and {options.time!r}, if these dates are right"
        found.append(error("time-goes-back", text, where, fix))
    if found:
        return found
    try:
        longest = _longest(options, step, times, numeric)
    except UsageError as e:
        return [error("bad-value", str(e), where)]
    gaps = np.flatnonzero(step > longest * (1 + 1e-9))
    if len(gaps):
        usual = _said(float(np.nanmedian(step)), numeric)
        text = f"{len(gaps)} gaps in {options.time!r} (a usual step is {usual}): {told(gaps)}"
        fix = "fill them, make each piece a series of its own, or allow them with `longest_step`"
        found.append(error("gap", text, where, fix))
    return found


def _longest(options: SeriesOptions, step: Floats, times: Floats, numeric: bool) -> float:
    """The longest step that is no gap."""
    if options.longest_step is not None:
        return parse_span(options.longest_step, numeric, "longest_step")
    usual = float(np.nanmedian(step)) if np.isfinite(step).any() else np.inf
    weekdays = (times // _DAY + 4) % 7  # 1970-01-01 was a Thursday; 0 is Sunday
    if not numeric and usual == _DAY and not np.isin(weekdays, (0, 6)).any():
        return _WEEK
    return _GAP * usual


def _said(step: float, numeric: bool) -> str:
    if numeric:
        return f"{step:g}"
    return f"{step / _DAY:g} days" if step != _DAY else "1 day"


def as_bytes(values: Floats) -> list[bytes]:
    """Each row of numbers (m, ...) as the bytes of float64, for a column of Parquet."""
    plain = np.ascontiguousarray(values, "<f8").reshape(len(values), -1)
    return [row.tobytes() for row in plain]


def from_bytes(cells: Sequence[Any], shape: tuple[int, ...], what: str) -> Floats:
    """What `as_bytes` gave, (m, *shape). UsageError for a row of another size or with numbers that are not finite."""
    size = 8 * int(np.prod(shape))
    for row, cell in enumerate(cells):
        if not isinstance(cell, bytes) or len(cell) != size:
            raise UsageError(f"{what}: row {row} is not {size} bytes of float64; make the rows with `run` or `tune`")
    values = np.frombuffer(b"".join(cells), "<f8").reshape(len(cells), *shape)
    wrong = np.flatnonzero(~np.isfinite(values).reshape(len(cells), -1).all(axis=1))
    if len(wrong):
        raise UsageError(f"{what}: row {wrong[0]} has a number that is not finite; leave such rows out")
    return values
