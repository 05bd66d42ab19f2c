"""Do models read their columns alike? What was fitted to training rows stands in a file of each model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import read_json
from tunemerge.findings import Finding, error
from tunemerge.registry import listed

FILE = "tunemerge_fitted.json"
_SAME = 1e-9


def preprocessing_findings(folders: Mapping[str, Path]) -> list[Finding]:
    """An error for each model that scales or counts a column otherwise than the first one that has columns: the same
    input would mean another thing to each, and their weights can't be merged."""
    known = {name: columns for name, folder in folders.items() if (columns := _columns(folder)) is not None}
    if len(known) < 2:
        return []
    (first, expected), *others = known.items()
    found = []
    for name, own in others:
        differ = [c for c in dict.fromkeys([*expected, *own]) if not _same(expected.get(c), own.get(c))]
        if differ:
            what = _said(expected.get(differ[0]), own.get(differ[0]), first)
            text = f"its preprocessing is not that of {first}: {listed(map(repr, differ), 5)} ({differ[0]}: {what})"
            fix = "fit the preprocessing once, and tune all models from a base that has it"
            found.append(error("preprocessing-differs", text, name, fix))
    return found


def _columns(folder: Path) -> dict[str, Any] | None:
    """Column to its scale, or its categories; None where nothing of the kind was fitted."""
    file = folder / FILE
    found = read_json(file).get("columns") if file.is_file() else None
    if not isinstance(found, dict):
        return None
    return {str(c): how for part in ("numeric", "categorical") for c, how in dict(found.get(part) or {}).items()}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= _SAME * max(abs(one), abs(other))
    return bool(one == other)


def _said(expected: Any, own: Any, first: str) -> str:
    """How two readings of a column differ, without a value of a row."""
    if own is None or expected is None:
        return f"not read by {first if expected is None else 'it'}"
    if isinstance(own, dict) and isinstance(expected, dict):
        a, b = (f"mean {x.get('mean', 0):.4g}, spread {x.get('std', 0):.4g}" for x in (own, expected))
        return f"{a} instead of {b}" if a != b else "flags of missing values on one side only"
    if isinstance(own, list) and isinstance(expected, list):
        return f"{len(own)} categories instead of {len(expected)}, {len(set(own) & set(expected))} of them in common"
    return "a number on one side, a category on the other"
