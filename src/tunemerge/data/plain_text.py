"""A plain text as a table, and long texts in pieces."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tunemerge.errors import UsageError


def read_text(path: Path) -> pd.DataFrame:
    """A file of text in UTF-8 (also .gz) as one row: a column `text`. Raises UsageError for another encoding."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw[: e.start].count(b"\n") + 1
        raise UsageError(f"{path}: byte {raw[e.start]:#04x} in line {line} is not UTF-8; save it as UTF-8") from e
    return pd.DataFrame({"text": [text]} if text.strip() else {"text": []})


def pieces(text: str, size: int) -> Iterator[str]:
    """The text cut into pieces of at most `size` characters, which joined are the text again.

    Cut at the last end of a line in the second half of a piece, else at the last space there, else anywhere.
    """
    start = 0
    while len(text) - start > size:
        middle, end = start + size // 2, start + size
        cut = text.rfind("\n", middle, end) + 1 or text.rfind(" ", middle, end) + 1 or end
        yield text[start:cut]
        start = cut
    yield text[start:]
