"""Splits by time: what is tested lies after what is trained on, with one calendar cut for all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tunemerge.data.split import VALIDATION
from tunemerge.errors import UsageError
from tunemerge.registry import listed

Times = NDArray[np.float64]
TEST = 0.2
_SHOWN = 3
# What may not share a unit with what is scored, and then with what is chosen on.
_SCORED, _CHOSEN, _TRAINED = ("test", "held_out"), ("validation",), ("adapt", "source")


@dataclass(frozen=True)
class Window:
    """From `start` on, before `end` (times as numbers)."""

    start: float
    end: float

    def holds(self, times: Times) -> NDArray[np.bool_]:
        return (times >= self.start) & (times < self.end)


def parse_times(values: pd.Series, where: str) -> tuple[Times, bool]:
    """Times as numbers, and whether they are plain numbers; dates (ISO 8601) become seconds since 1970.

    Raises UsageError naming the first rows whose value is no date.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    if not numbers.isna().any():
        return np.asarray(numbers, np.float64), True
    dates = pd.to_datetime(values.astype(str), errors="coerce", utc=True, format="ISO8601")
    bad = values.index[dates.isna()]
    if len(bad):
        shown = listed((f"{values[i]!r} in data row {i + 1}" for i in bad[:_SHOWN]), _SHOWN)
        raise UsageError(
            f"{where}: {len(bad)} values of {values.name!r} are no dates, first {shown}; write them as 2026-01-31"
        )
    return np.asarray(dates.dt.as_unit("us").astype("int64"), np.float64) / 1e6, False


def parse_span(span: str | None, numeric: bool, key: str) -> float:
    """A length of time in the unit of `parse_times`: "5d", "12h", "2w" for dates, a number for numbers."""
    if span is None:
        return 0.0
    try:
        length = float(span) if numeric else pd.Timedelta(span.replace("w", "W")).total_seconds()
        if not numeric:
            float_like = span.strip().replace(".", "", 1).isdigit()
            if float_like:
                raise ValueError
        if length < 0:
            raise ValueError
    except ValueError:
        what = "a number, as the column's values are" if numeric else "a length of time such as 5d, 12h or 2w"
        raise UsageError(f"{key}: {span!r} is not {what}") from None
    return length


def windows(
    times: Sequence[Times], sizes: Mapping[str, float], folds: int | None, fold: int | None, gap: float
) -> dict[str, Window]:
    """The window of every split, for all tasks whose times are given.

    Without folds backwards from the end: test, validation, adapt, source, as fractions of all rows. With folds the test
    rows (if any) come off the end, the rest is cut into folds + 1 stretches of equally many rows: fold f is the stretch
    f + 1, and the other splits are fractions of what lies before it. Rows with the same time are never divided; a
    window ends `gap` before the next begins, but for source, which adapt follows without one.
    """
    ordered = np.sort(np.concatenate(list(times)))
    out: dict[str, Window] = {}
    end, rows = np.inf, len(ordered)
    sizes = {**({} if folds else {"test": TEST}), "validation": VALIDATION, **sizes}
    if "test" in sizes:
        end = _cut(ordered, rows, sizes["test"] * rows)
        out["test"] = Window(end, np.inf)
        if folds:
            ordered = ordered[ordered < end]
    if folds:
        assert fold is not None
        stretch = len(ordered) / (folds + 1)
        start = _cut(ordered, len(ordered), len(ordered) - (fold + 1) * stretch)
        stop = end if fold == folds - 1 else _cut(ordered, len(ordered), len(ordered) - (fold + 2) * stretch)
        out["held_out"] = Window(start, stop)
        end, rows = start, int((ordered < start).sum())
    for split in ("validation", "adapt", "source"):
        if split == "adapt" and split not in sizes:
            share = max(0.0, 1 - sum(v for k, v in sizes.items() if k != "test" or not folds))
        elif split in sizes:
            share = sizes[split]
        else:
            continue
        stop = end if split == "source" else end - gap
        before = int((ordered < stop).sum())
        rest = split in ("adapt", "source") and split not in sizes and "source" not in sizes
        start = -np.inf if rest else _cut(ordered, before, share * rows)
        out[split] = Window(start, stop)
        end = start
    return out


def _cut(ordered: Times, before: int, count: float) -> float:
    """The time from which on about `count` of the first `before` of the ordered times lie."""
    position = before - round(count)
    if position <= 0:
        return -np.inf
    return float(ordered[min(position, len(ordered) - 1)])


@dataclass(frozen=True)
class Known:
    """When the answer of each row is known, and how long before the next window that must be."""

    times: Times
    embargo: float

    def in_time(self, split: str, found: Mapping[str, Window]) -> NDArray[np.bool_]:
        """Whether the answers of a split's rows are known before what is chosen or scored with them begins."""
        later = (*_SCORED, *(_CHOSEN if split in _TRAINED else ()))
        begins = min(found[name].start for name in later if name in found)
        return self.times <= begins - self.embargo


def by_window(
    rows: pd.DataFrame, times: Times, found: Mapping[str, Window], known: Known | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """A task's rows by split; and, for each split that lost some, how many rows were left out of it because their unit
    is scored or chosen on.

    With `known` rows are kept apart by when their answers are known, row by row, and units (series) may come back.
    """
    if known is not None:
        inside = {split: window.holds(times) for split, window in found.items()}
        late = {s: known.in_time(s, found) if s in (*_CHOSEN, *_TRAINED) else True for s in found}
        return {split: rows[inside[split] & late[split]] for split in found}, {}
    parts = {split: rows[window.holds(times)] for split, window in found.items()}
    dropped: dict[str, int] = {}
    for later, earlier in ((_SCORED, (*_CHOSEN, *_TRAINED)), (_CHOSEN, _TRAINED)):
        seen = set().union(*(set(parts[s]["unit"]) for s in later if s in parts))
        for split in earlier:
            if split in parts and (stays := ~parts[split]["unit"].isin(seen)).sum() < len(parts[split]):
                dropped[split] = dropped.get(split, 0) + int((~stays).sum())
                parts[split] = parts[split][stays]
    return parts, dropped
