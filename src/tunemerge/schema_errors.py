"""What pydantic finds wrong with a value, in words that a person who writes YAML knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunemerge.registry import nearest

_TYPES = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "keys with values",
    "model": "keys with values",
}
# By what pydantic calls the error; braces hold what it knows of the bound.
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_pattern_mismatch": "a name of letters, digits, '_', '.' and '-' that begins with a letter or digit",
}
_SHOWN = 60


def said(error: Mapping[str, Any]) -> str:
    """One of `ValidationError.errors()`: "expected a whole number, found 'five'"; where the schema's own check speaks,
    what that says."""
    expected = _expected(error)
    value = error["input"]
    shown = repr(value) if len(repr(value)) <= _SHOWN else repr(value)[: _SHOWN - 3] + "..."
    if isinstance(value, dict | list) and (expected is None or not value):
        found = "" if expected is None else f", found an empty {'list' if isinstance(value, list) else 'mapping'}"
    else:
        found = ", found nothing" if value is None else f", found {shown}"
    text = error["msg"].removeprefix("Value error, ") if expected is None else f"expected {expected}"
    return f"{text}{found}{_near(error)}"


def _expected(error: Mapping[str, Any]) -> str | None:
    kind, about = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return str(about["expected"])
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**{k: f"{v:g}" if isinstance(v, float) else v for k, v in about.items()})
    if kind == "int_from_float":
        return _TYPES["int"]
    return _TYPES.get(kind if kind in _TYPES else re.sub(r"_(type|parsing|parsing_size)$", "", kind))


def _near(error: Mapping[str, Any]) -> str:
    """Of a value that is none of a few words, those that are near it."""
    if error["type"] != "literal_error":
        return ""
    near = nearest(str(error["input"]), re.findall("'([^']*)'", error["ctx"]["expected"]))
    return near if "did you mean" in near else ""
