"""Which rows a model has seen: hashes of them in the model's folder, so that a test set can be held against it.

A hash is 64 bits of SHA-256 over what a model reads of a row, without regard to case and spaces. It shows no text, but
who has a row can tell whether it is among them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tunemerge.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

FILE = "tunemerge_rows.json"
_FORMAT = 1
_HEX = 16


def normalised(content: pd.Series) -> pd.Series:
    """Texts without regard to case and spaces."""
    return content.astype(str).str.casefold().str.split().str.join(" ")


def row_hashes(content: pd.Series) -> list[str]:
    """The hash of each row's content (see `data.load.content_of`)."""
    return [hashlib.sha256(text.encode()).hexdigest()[:_HEX] for text in normalised(content)]


def read_seen(folder: Path) -> frozenset[str] | None:
    """The hashes that a model's folder records; None where it has no record. Raises UsageError for one that is none."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_bytes())
        hashes = frozenset(record["rows"])
        if record["format"] != _FORMAT or not all(isinstance(h, str) and len(h) == _HEX for h in hashes):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file}: not a record of rows of this version: delete it if you trust the model") from None
    return hashes


def pass_on(sources: Iterable[Path], out: Path, own: Iterable[str] = ()) -> None:
    """Write into the model's folder `out` what the models that it was made of have seen, and the hashes `own`."""
    known = [seen for folder in sources if (seen := read_seen(folder)) is not None]
    hashes = sorted(frozenset(own).union(*known))
    if hashes:
        (out / FILE).write_text(json.dumps({"format": _FORMAT, "rows": hashes}, indent=0) + "\n", encoding="utf-8")
