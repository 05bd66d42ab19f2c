"""Quality against marginal cost, with the front of arms that nothing beats in both.

Log axis in FLOPs; arms that cost nothing stand in a strip of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunemerge.report import format as fmt
from tunemerge.report.bars import marker
from tunemerge.report.labels import leader_end, place
from tunemerge.report.svg import (
    Svg,
    el,
    fence,
    figure,
    fit,
    line,
    log_ticks,
    nice_ticks,
    path,
    text,
    text_width,
    titled,
)
from tunemerge.results import ArmResult, Results


def pareto_front(arms: Sequence[ArmResult], higher_is_better: bool) -> list[ArmResult]:
    """Deliverable arms (ceilings are none) that no other beats or equals at less or the same cost, cheapest first."""
    sign = 1 if higher_is_better else -1
    front: list[ArmResult] = []
    able = [a for a in arms if a.deliverable and not a.ceiling]
    for arm in sorted(able, key=lambda a: (fmt.all_flops(a.marginal), -sign * a.test.value)):
        if not front or sign * arm.test.value > sign * front[-1].test.value:
            front.append(arm)
    return front


@dataclass(frozen=True)
class _Frame:
    """Pixel geometry of one drawing."""

    left: float
    right: float
    top: float
    bottom: float
    zero: float | None  # centre of the strip of free arms
    decades: tuple[float, float]
    scores: tuple[float, float]

    def x(self, cost: float) -> float:
        if cost <= 0:
            return self.zero or self.left
        low, high = self.decades
        start = self.left if self.zero is None else self.zero + 34
        return start + (math.log10(cost) - low) / (high - low) * (self.right - start)

    def y(self, value: float) -> float:
        low, high = self.scores  # bottom and top: turned where lower is better, so that up is always better
        part = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.bottom - part * (self.bottom - self.top)

    def off(self, value: float) -> bool:
        """Is the value beyond the axis, so that its point stands at the edge?"""
        return not min(self.scores) <= value <= max(self.scores)


def _axes(frame: _Frame, ticks: list[float], results: Results, narrow: bool) -> list[Svg]:
    out = []
    for tick in ticks:
        y = frame.y(tick)
        out += [
            line(frame.left, y, frame.right, y, "grid"),
            text(frame.left - 8, y + 4, fmt.tick(tick, results.metric), "tick", "end"),
        ]
    low, high = (10**d for d in frame.decades)
    found = log_ticks(low, high)
    step = max(1, math.ceil(len(found) / (3 if narrow else 7)))
    for tick in found[::step]:
        x = frame.x(tick)
        out += [
            line(x, frame.top, x, frame.bottom, "grid"),
            text(x, frame.bottom + 18, fmt.flops_tick(tick), "tick", "middle"),
        ]
    if frame.zero is not None:
        out += [text(frame.zero, frame.bottom + 18, "0", "tick", "middle")]
        out += [line(frame.zero + 17, frame.top, frame.zero + 17, frame.bottom, "break")]
    out += [line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")]
    middle = (frame.left + frame.right) / 2
    out += [text(middle, frame.bottom + 38, "marginal compute (log scale)", "label", "middle")]
    arrow = "up is better" if results.higher_is_better else "lower is better: the axis is turned"
    return [*out, text(4, frame.top - 12, f"test {fmt.metric_name(results.metric)} ({arrow})", "label")]


def _frame(
    arms: Sequence[ArmResult], results: Results, width: float, height: float, bottom: float
) -> tuple[_Frame, list[float]]:
    costs = [fmt.all_flops(a.marginal) for a in arms]
    paid = [c for c in costs if c > 0] or [1e12]
    low, high = math.log10(min(paid)), math.log10(max(paid))
    pad = max(0.15, (high - low) * 0.08)
    ticks = nice_ticks(*fence([a.test.value for a in arms]), 6)
    ends = (ticks[0], ticks[-1]) if results.higher_is_better else (ticks[-1], ticks[0])
    zero = 52.0 + 20 if any(c <= 0 for c in costs) else None
    frame = _Frame(52, width - 14, 34, height - bottom, zero, (low - pad, high + pad), (ends[0], ends[1]))
    return frame, ticks


def _label(name: str, arm: ArmResult, frame: _Frame, results: Results) -> str:
    """An arm's name with a star where it is handed back, and its score where the axis does not reach it."""
    star = " ★" if arm.handed_back else ""
    off = f" {fmt.score(arm.test.value, results.metric)} (off the axis)" if frame.off(arm.test.value) else ""
    return name + star + off


def _stairs(front: Sequence[ArmResult], frame: _Frame) -> list[tuple[float, float]]:
    """The corners of the front's line: across to the next cost, then up to its score."""
    stairs: list[tuple[float, float]] = []
    for arm in front:
        x, y = frame.x(fmt.all_flops(arm.marginal)), frame.y(arm.test.value)
        stairs += [(x, stairs[-1][1]), (x, y)] if stairs else [(x, y)]
    return [*stairs, (frame.right, stairs[-1][1])] if stairs else []


def _key(arms: Sequence[ArmResult], front: Sequence[ArmResult], frame: _Frame, results: Results) -> list[Svg]:
    """What the numbers of the narrow picture mean."""
    out = []
    for i, arm in enumerate(arms):
        y = frame.bottom + 66 + 20 * i
        name = _label(fit(f"{i + 1}  {arm.name}", 200 if frame.off(arm.test.value) else 270, 12), arm, frame, results)
        out.append(marker(20, arm.role, y - 4, hollow=not arm.deliverable or arm.ceiling))
        out.append(text(34, y, name, "name strong" if arm in front else "name"))
    return out


def _points(
    arms: Sequence[ArmResult], front: Sequence[ArmResult], frame: _Frame, results: Results, narrow: bool
) -> list[Svg]:
    """Markers and their labels, leader lines under both."""
    spots = [(frame.x(fmt.all_flops(a.marginal)), frame.y(a.test.value)) for a in arms]
    if narrow:
        names = [str(i + 1) for i in range(len(arms))]
    else:
        names = [_label(fit(a.name, 220, 12), a, frame, results) for a in arms]
    sizes = [text_width(n, 12, bold=a in front) for n, a in zip(names, arms, strict=True)]
    radii = [12.0 if a.handed_back else 7.0 for a in arms]
    around = (frame.left, frame.top - 6, frame.right + 8, frame.bottom)
    placed = place(spots, names, sizes, radii, around, 12, list(pairwise(_stairs(front, frame))))
    out = [
        line(*spot, *leader_end(label, spot), "leader")
        for spot, label in zip(spots, placed, strict=True)
        if label.leader
    ]
    for arm, (x, y), label in zip(arms, spots, placed, strict=True):
        tip = f"{arm.name}: {fmt.score(arm.test.value, results.metric)}, {fmt.flops(fmt.all_flops(arm.marginal))}"
        ring = [el("circle", cx=x, cy=y, r=10, cls="ring")] if arm.handed_back else []
        shape = marker(x, arm.role, y, hollow=not arm.deliverable or arm.ceiling)
        name = text(label.x, label.y, label.text, f"name halo{' strong' if arm in front else ''}")
        out.append(titled(tip, *ring, shape, name))
    return out


def pareto(results: Results, ident: str, *, narrow: bool = False) -> Svg:
    """The whole picture. Narrow: numbered points and the names below, for a phone."""
    arms = results.arms
    width, below = (350.0, 20.0 * len(arms) + 16) if narrow else (1000.0, 0.0)
    height = 300 + below if narrow else 520.0
    frame, ticks = _frame(arms, results, width, height, 50 + below)
    front = pareto_front(arms, results.higher_is_better)
    line_of_front = [path(_stairs(front, frame), "front")] if front else []
    body = _axes(frame, ticks, results, narrow) + line_of_front + _points(arms, front, frame, results, narrow)
    if narrow:
        body += _key(arms, front, frame, results)
    listed = "; ".join(
        f"{a.name} {fmt.score(a.test.value, results.metric)} at {fmt.flops(fmt.all_flops(a.marginal))}" for a in front
    )
    desc = f"The Pareto front of deliverable arms: {listed or 'none'}."
    return figure(ident, "Test score against marginal cost", desc, body, width=width, height=height)
