"""Inline SVG as strings: escaping, elements, figures with text alternatives, axes, and how wide a text will be.

Colours come from classes and CSS variables of the page only, never from style attributes (the page's content security
policy forbids them), so that every picture follows the theme.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from html import escape
from statistics import quantiles
from typing import NewType

Svg = NewType("Svg", str)
_NARROW = set("ijl.,:;|!'()[]{}It f-r1`")
_WIDE = set("mwMW@%&★▲")


def number(value: float) -> str:
    """At most two decimals, no trailing zeros, no negative zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def el(tag: str, *children: Svg, **attributes: str | float | None) -> Svg:
    """An element. `cls` stands for class, underscores for hyphens; attributes that are None are left out."""
    parts = []
    for name, value in attributes.items():
        if value is None:
            continue
        shown = value if isinstance(value, str) else number(value)
        parts.append(f' {"class" if name == "cls" else name.replace("_", "-")}="{escape(shown)}"')
    inner = "".join(children)
    return Svg(f"<{tag}{''.join(parts)}>{inner}</{tag}>" if inner else f"<{tag}{''.join(parts)}/>")


def raw(text: str) -> Svg:
    """Text content, escaped."""
    return Svg(escape(text))


def text(x: float | str, y: float, content: str, cls: str = "", anchor: str | None = None) -> Svg:
    return el("text", raw(content), x=x, y=y, cls=cls or None, text_anchor=anchor)


def line(x1: float | str, y1: float | str, x2: float | str, y2: float | str, cls: str) -> Svg:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, cls=cls)


def path(points: Sequence[tuple[float, float]], cls: str) -> Svg:
    """A polyline through the points."""
    return el("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), cls=cls, fill="none")


def titled(name: str, *children: Svg, cls: str | None = None) -> Svg:
    """A group with a tooltip."""
    return el("g", el("title", raw(name)), *children, cls=cls)


def figure(
    ident: str, title: str, desc: str, body: Sequence[Svg], *, width: float | None, height: float, cls: str = ""
) -> Svg:
    """A whole picture. `width` None: as wide as its container, x coordinates then are percentages.

    `ident` must be unique in the page: title and description are referred to by it.
    """
    sized = (
        {"width": "100%"}
        if width is None
        else {"width": number(width), "viewBox": f"0 0 {number(width)} {number(height)}"}
    )
    return el(
        "svg",
        el("title", raw(title), id=f"{ident}-t"),
        el("desc", raw(desc), id=f"{ident}-d"),
        *body,
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
        height=height,
        cls=cls or None,
        **sized,
    )


def _advance(char: str) -> float:
    if char in _NARROW:
        return 0.38
    if char in _WIDE:
        return 0.95
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    return 0.72 if char.isupper() else 0.61


def text_width(content: str, size: float, *, bold: bool = False) -> float:
    """About how wide, in px, with a usual system font; rather too wide than too narrow."""
    return sum(map(_advance, content)) * size * (1.12 if bold else 1.0)


def fit(content: str, width: float, size: float, *, bold: bool = False) -> str:
    """Shorten in the middle, so that both ends stay readable, until it is at most `width` px wide."""
    if bold:
        width /= 1.12
    if text_width(content, size) <= width:
        return content
    keep = len(content) - 1
    while keep > 1:
        head = (keep + 1) // 2
        shown = f"{content[:head].rstrip()}…{content[len(content) - keep // 2 :].lstrip()}"
        if text_width(shown, size) <= width:
            return shown
        keep -= max(1, keep // 40)
    return "…"


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that cover [low, high], at most `most` + 1 of them."""
    if high <= low:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def fence(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values without those far out (Tukey's outer fences: 3 interquartile ranges off)."""
    found = sorted(values)
    if len(found) < 4:
        return found[0], found[-1]
    lower, _, upper = quantiles(found, n=4, method="inclusive")
    reach = 3 * (upper - lower)
    inside = [v for v in found if lower - reach <= v <= upper + reach]
    return inside[0], inside[-1]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a log axis inside [low, high]: decades, with 2 and 5 between where they are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        if len(ticks) >= 3:
            return ticks
    return ticks
