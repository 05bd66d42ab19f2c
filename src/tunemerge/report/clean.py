"""Strings that come from outside (names, labels, a study file) made harmless for any medium before they are shown.

Escaping is the business of each medium (Jinja, SVG, Markdown). Here go characters that no medium can show: control
characters, which are not even legal in XML, and those that reorder text on the screen, with which a name could pose as
another. Letters of any script stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

from tunemerge.results import Results

_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
REPLACEMENT = "\ufffd"


def clean_text(text: str) -> str:
    """Replace what cannot be shown by U+FFFD; line feeds and tabs stay, \\r\\n becomes \\n."""
    return _UNSHOWABLE.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(str(key)): _clean(item) for key, item in value.items()}
    return value


def clean_results(results: Results) -> Results:
    """The same results with every string in them cleaned."""
    return Results.model_validate(_clean(results.model_dump()))
