"""Interval bars: one small picture a table row, all on one scale; the forest plot of contrasts in the same way.

The pictures are as wide as their cell (x in per cent of it), so that they work on a phone and on a wide screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunemerge.report import format as fmt
from tunemerge.report import view
from tunemerge.report.svg import Svg, el, fence, figure, line, nice_ticks, text
from tunemerge.results import ArmResult, ContrastResult, IncumbentResult, Interval, Results

HEIGHT = 28
_MIDDLE = HEIGHT / 2


@dataclass(frozen=True)
class Scale:
    """Values to per cent of a picture's width, with a margin on both sides."""

    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float], most: int = 5) -> Scale:
        found = list(values)
        return cls(tuple(nice_ticks(min(found), max(found), most)))

    def at(self, value: float) -> str:
        low, high = self.ticks[0], self.ticks[-1]
        return f"{6 + 88 * min(1.05, max(-0.05, (value - low) / (high - low))):.2f}%"


@dataclass(frozen=True)
class _Scored:
    """What a bar is drawn of."""

    name: str
    role: str
    test: Interval
    by_seed: Sequence[float]
    hollow: bool


def marker(x: str | float, role: str, y: float = _MIDDLE, *, hollow: bool = False) -> Svg:
    """Circle: order; square: alternative; diamond: control (turned by the style sheet); upright bar: what runs today.
    Hollow: not a deliverable."""
    cls = f"m {role}{' hollow' if hollow else ''}"
    if role == "order":
        return el("circle", cx=x, cy=y, r=5.5, cls=cls)
    if role == "today":
        return el("g", el("rect", x=x, y=y - 8, width=5, height=16, cls=cls), transform="translate(-2.5 0)")
    # The centre may be a percentage, so the shape is drawn around x by a shift, not by arithmetic.
    return el("g", el("rect", x=x, y=y - 4.5, width=9, height=9, cls=cls), transform="translate(-4.5 0)")


def arm_scale(results: Results) -> Scale:
    """Over the means of all arms but those far out, and their seeds; wide intervals are cut where they would press all
    that matters together."""
    low, high = fence([a.test.value for a in results.arms])
    shown = [a for a in results.arms if low <= a.test.value <= high]
    points = [v for a in shown for v in (a.test.value, *a.test_by_seed)]
    points += [results.incumbent.test.value] if results.incumbent else []
    first, last = min(points), max(points)
    reach = (last - first) / 2 or 1.0
    ends = [v for a in shown for v in (a.test.low, a.test.high)]
    return Scale.over([*points, *(min(max(v, first - reach), last + reach) for v in ends)])


def _interval(arm: _Scored, scale: Scale) -> list[Svg]:
    """The interval as a bar, with an arrow where it goes on beyond the scale; seeds as ticks; the mean as a marker."""
    low, high = scale.ticks[0], scale.ticks[-1]
    body = [line(scale.at(v), _MIDDLE - 9, scale.at(v), _MIDDLE + 9, "seed") for v in arm.by_seed if low <= v <= high]
    body.append(line(scale.at(arm.test.low), _MIDDLE, scale.at(arm.test.high), _MIDDLE, f"whisker {arm.role}"))
    if arm.test.low < low:
        body.append(text("0%", _MIDDLE + 4, "◂", "tick", "start"))
    if arm.test.high > high:
        body.append(text("100%", _MIDDLE + 4, "▸", "tick", "end"))
    return [*body, marker(scale.at(arm.test.value), arm.role, hollow=arm.hollow)]


def arm_bar(arm: ArmResult, scale: Scale, results: Results, ident: str) -> Svg:
    """Test score with its interval, a tick a seed, a gridline a tick of the scale."""
    hollow = not arm.deliverable or arm.ceiling
    return _bar(_Scored(arm.name, arm.role, arm.test, arm.test_by_seed, hollow), scale, results, ident)


def today_bar(found: IncumbentResult, scale: Scale, results: Results) -> Svg:
    """The same for what runs today, which has no seeds."""
    return _bar(_Scored(found.name, "today", found.test, [], False), scale, results, "bar-today")


def _bar(arm: _Scored, scale: Scale, results: Results, ident: str) -> Svg:
    seeds = f"; by seed {', '.join(fmt.score(v, results.metric) for v in arm.by_seed)}" if arm.by_seed else ""
    desc = (
        f"Test {fmt.metric_name(results.metric)} {fmt.score(arm.test.value, results.metric)}, "
        f"{100 * results.level:g}% interval {fmt.interval(arm.test, results.metric)}{seeds}."
    )
    body = [line(scale.at(t), 0, scale.at(t), HEIGHT, "grid") for t in scale.ticks]
    if arm.test.value < scale.ticks[0]:
        body.append(text("1%", _MIDDLE + 4, "◂ off the scale", "tick", "start"))
    elif arm.test.value > scale.ticks[-1]:
        body.append(text("99%", _MIDDLE + 4, "off the scale ▸", "tick", "end"))
    else:
        body += _interval(arm, scale)
    return figure(ident, f"{arm.name}: test score", desc, body, width=None, height=HEIGHT, cls="bar")


def axis(scale: Scale, results: Results, ident: str, *, differences: bool = False) -> Svg:
    """The scale's tick labels, for the head of the column."""
    show = fmt.difference_tick if differences else fmt.tick
    labels = [show(t, results.metric) for t in scale.ticks]
    body = [text(scale.at(t), 12, label, "tick", "middle") for t, label in zip(scale.ticks, labels, strict=True)]
    return figure(
        ident, "Scale of the bars", f"From {labels[0]} to {labels[-1]}.", body, width=None, height=16, cls="bar"
    )


def contrasts(results: Results) -> list[ContrastResult]:
    """The family, then the questions beside it."""
    return [*results.contrasts, *(c for _, c in view.beside(results))]


def contrast_scale(results: Results) -> Scale:
    edges = [v for c in contrasts(results) for v in (c.difference.low, c.difference.high)]
    return Scale.over([*edges, 0.0, results.margin * 1.2, -results.margin * 1.2], most=3)


def contrast_bar(row: ContrastResult, scale: Scale, results: Results, ident: str) -> Svg:
    """One row of the forest plot: the interval against zero and the margin of practical equivalence (shaded)."""
    margin = results.margin
    left, right = scale.at(-margin), scale.at(margin)
    width = f"{float(right[:-1]) - float(left[:-1]):.2f}%"
    body = [el("rect", x=left, y=0, width=width, height=HEIGHT, cls="margin")]
    body += [line(scale.at(t), 0, scale.at(t), HEIGHT, "grid") for t in scale.ticks]
    body += [line(scale.at(0), 0, scale.at(0), HEIGHT, "zero")]
    body += [line(scale.at(row.difference.low), _MIDDLE, scale.at(row.difference.high), _MIDDLE, "whisker order")]
    body += [marker(scale.at(row.difference.value), "order")]
    desc = (
        f"Test difference {fmt.contrast(row.difference, results.metric)}; Holm p "
        f"{fmt.probability(row.p_holm)}; {row.verdict}. The shaded band is the margin of practical equivalence, "
        f"{fmt.size(margin, results.metric)} on each side of zero."
    )
    return figure(ident, f"{row.a} minus {row.b}", desc, body, width=None, height=HEIGHT, cls="bar")
