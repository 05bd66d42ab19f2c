"""What raw label values are called: by the labels of a model's head, or as the person says."""

from __future__ import annotations

import re
from collections.abc import Sequence


def as_labels(raw: Sequence[str], names: Sequence[str]) -> dict[str, str] | None:
    """Raw label values to the names of a head, in index order; {} where they are the same already, None where nothing
    tells which is which."""
    if set(raw) <= set(names):
        return {}
    folded = {name.lower(): name for name in names}
    if len(folded) == len(names) and all(value.lower() in folded for value in raw):
        return {value: folded[value.lower()] for value in raw}
    begun = {value: [n for n in names if _begins(n, value)] for value in raw}
    if all(len(found) == 1 for found in begun.values()) and len({f[0] for f in begun.values()}) == len(raw):
        return {value: found[0] for value, found in begun.items()}
    if all(value.isdecimal() and int(value) < len(names) for value in raw):
        return {value: names[int(value)] for value in raw}
    return None


def _begins(name: str, value: str) -> bool:
    """Whether a name is a value written out: pos, positive; 5, 5 stars."""
    first = re.match(r"[a-z]+|\d+", name.lower())
    folded = value.lower()
    return bool(first) and (first[0] == folded or (len(folded) > 2 and first[0].startswith(folded)))  # type: ignore[index]


def sorted_labels(values: Sequence[str]) -> tuple[str, ...]:
    """By number where all are numbers, else as texts."""
    if all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values):
        return tuple(sorted(values, key=float))
    return tuple(sorted(values))
