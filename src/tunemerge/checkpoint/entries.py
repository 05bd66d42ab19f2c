"""JSON that strangers wrote, read entry by entry: memory stays that of the file however it was made up.

A header of 100 MB of "[],[],[]" would take 2.3 GB as Python objects; here it is refused where an entry grows too large.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

MAX_NAME = 4_096
"""Bytes of a name."""

_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_OPEN = re.compile(_SPACE + rb"\{" + _SPACE)
_KEY = re.compile(rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_FLAT = re.compile(rb'\{(?:[^"{}]++|' + _STRING + rb")*+\}", re.DOTALL)
_NEXT = re.compile(_SPACE + rb"([,}])" + _SPACE)

_SHORT = reprlib.Repr()
_SHORT.maxstring = 100


def entries(raw: bytes, limit: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
    """Names and values (the text of JSON objects that hold no objects) of one object, in order.

    ValueError for anything else, and for a value of more bytes than `limit(name)`.
    """
    opening = _OPEN.match(raw)
    if opening is None:
        raise ValueError("not an object")
    at, following = opening.end(), _NEXT.match(raw, opening.end())
    while following is None or following[1] == b",":
        key = _KEY.match(raw, at)
        if key is None or key.end(1) - key.start(1) > MAX_NAME:
            raise ValueError(f"no name of at most {MAX_NAME:,} bytes in quotes at character {at:,}")
        name = checked_text(parse(key[1]))
        value = _FLAT.match(raw, key.end())
        if value is None:
            raise ValueError(f"{short(name)} is not followed by a whole object of simple values")
        if value.end() - value.start() > limit(name):
            raise ValueError(f"{short(name)} is followed by more than {limit(name):,} bytes")
        yield name, value[0]
        following = _NEXT.match(raw, value.end())
        if following is None:
            raise ValueError(f"neither a comma nor the end after {short(name)}")
        at = following.end()
    if following.end() != len(raw):
        raise ValueError("more after its end")


def parse(text: bytes) -> Any:
    """A JSON value; ValueError (or RecursionError) where it is none, or where an object has a key twice."""
    return _JSON.decode(text.decode("utf-8"))


def checked_text(value: str) -> str:
    """The string itself; ValueError for half of a surrogate pair, which no other program reads or writes."""
    value.encode("utf-8")
    return value


def short(value: Any) -> str:
    """What a file says, as it may be shown: escaped, and no longer than a line or two."""
    return _SHORT.repr(value)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen = set[str]()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{short(name)} is there twice")
            seen.add(name)
    return out


_JSON = json.JSONDecoder(object_pairs_hook=_no_duplicates)
