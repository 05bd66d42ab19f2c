"""CSV and TSV, read so that no text is cut or shifted: every row must have the header's number of fields."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from tunemerge.errors import UsageError

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_SHOWN = 5


def read_delimited(path: Path, separator: str) -> pd.DataFrame:
    """All values as text, empty ones missing; blank lines are skipped.

    Raises UsageError with the lines of all rows that have more or fewer fields than the header (a comma in a text
    without quotes), and where the file is not UTF-8 or ends inside quotes.
    """
    rows: list[list[Any]] = []
    odd: list[tuple[int, int]] = []
    begun = 1
    try:
        with _opened(path) as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = next((row for row in reader if row), [])
            begun = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(header):
                    odd.append((begun, len(row)))
                elif row:
                    rows.append([value or float("nan") for value in row])
                begun = reader.line_num + 1
    except UnicodeDecodeError as problem:
        found = f"byte {problem.object[problem.start]:#04x}"
        raise UsageError(f"{path}: not UTF-8 ({found}): save it as UTF-8 (in a spreadsheet: CSV UTF-8)") from None
    except csv.Error as problem:
        raise UsageError(f"{path} line {begun}: {_quoting(str(problem))}") from None
    other = next((mark for mark in ";\t|," if len(header) == 1 and mark in header[0]), None)
    if other:
        raise UsageError(f"{path}: one column, {header[0]!r}: separated by {other!r}? Save it with {_name(separator)}")
    if odd:
        raise UsageError(_fields(path, odd, len(header), separator))
    return pd.DataFrame(rows, columns=header, dtype=object)


def _fields(path: Path, odd: list[tuple[int, int]], expected: int, separator: str) -> str:
    (line, fields), *others = odd
    more = ""
    if others:
        lines = ", ".join(str(number) for number, _ in others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
        more = f" (so it is with {len(others)} more: line{'s' * (len(others) > 1)} {lines})"
    what = f"{fields} fields, the header has {expected}{more}"
    return f"{path} line {line}: {what}: quote texts that contain {_name(separator)}"


def _quoting(problem: str) -> str:
    """What the csv module found, in words."""
    if "end of data" in problem:
        return "a quote is opened in the row that begins here and never closed"
    if "expected after" in problem:
        return "text goes on after a closing quote: quotes inside a quoted text are written twice"
    return problem


def _name(separator: str) -> str:
    return "commas" if separator == "," else "tabs"


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The text of a file, compressed or not; a field may be of any length."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    finally:
        csv.field_size_limit(limit)
