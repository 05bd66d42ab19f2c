"""Labels beside points that do not collide: with each other, with points, with lines, with the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
Segment = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Label:
    """A placed label: its baseline's start, and whether it is so far from its point that a leader line is needed."""

    text: str
    x: float
    y: float
    box: Box
    leader: bool


def _overlap(a: Box, b: Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def leader_end(label: Label, point: tuple[float, float]) -> tuple[float, float]:
    """Where a leader line from the point should meet the label's box."""
    x0, y0, x1, y1 = label.box
    return min(max(point[0], x0), x1), min(max(point[1], y0), y1)


def _crosses(box: Box, segment: Segment) -> bool:
    """Does the segment run through the box? Sampled; exact enough for labels."""
    (x0, y0), (x1, y1) = segment
    samples = ((x0 + (x1 - x0) * i / 12, y0 + (y1 - y0) * i / 12) for i in range(1, 12))
    return any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in samples)


def _around(segment: Segment) -> Box:
    """The box of a line along an axis, as thick as it is drawn."""
    (x0, y0), (x1, y1) = segment
    return min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1


_DIRECTIONS = [(math.cos(math.radians(a)), math.sin(math.radians(a))) for a in range(0, 360, 15)]


def _candidates(
    point: tuple[float, float], content: str, width: float, clear: float, size: float
) -> Iterator[tuple[float, Label]]:
    """Places around a point with their distance, nearest first; `clear` is the radius of the point's mark."""
    for gap in (2, 8, 18, 32, 48, 66, 88, 112, 142):
        for across, down in _DIRECTIONS:
            x, y = point[0] + (clear + gap) * across, point[1] + (clear + gap) * down
            left = x if across > 0.2 else x - width if across < -0.2 else x - width / 2
            box = (left, y - size * 0.62, left + width, y + size * 0.62)
            yield gap + abs(down), Label(content, left, y + size * 0.35, box, gap > 8)


def _outside(box: Box, frame: Box) -> float:
    over = (frame[0] - box[0], box[2] - frame[2], frame[1] - box[1], box[3] - frame[3])
    return sum(max(0.0, x) for x in over)


def place(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    widths: Sequence[float],
    radii: Sequence[float],
    frame: Box,
    size: float,
    lines: Sequence[Segment] = (),
) -> list[Label]:
    """A label for every point: crowded points choose first, each the place that costs least.

    `widths` are those of the texts, `radii` those of the points' marks, in px; labels stay inside `frame`. `lines` run
    along an axis: a label on one of them is hard to read.
    """
    strokes = [_around(segment) for segment in lines]
    marks: list[Box] = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(points, radii, strict=True)]
    crowd = [sum(math.dist(p, q) < 60 for q in points) for p in points]
    placed: dict[int, Label] = {}
    leaders: list[Segment] = []
    for i in sorted(range(len(points)), key=lambda i: (-crowd[i], points[i][1])):
        others = [mark for j, mark in enumerate(marks) if j != i]
        best: tuple[float, Label] | None = None
        for far, label in _candidates(points[i], texts[i], widths[i], radii[i], size):
            if best is not None and far > best[0] + 1:
                break  # the others are farther still
            cost = far
            cost += 50 * _outside(label.box, frame)
            shared = (_overlap(label.box, box) for box in [*others, *(p.box for p in placed.values())])
            cost += sum(40 + 4 * area for area in shared if area)
            cost += sum(60 for segment in leaders if _crosses(label.box, segment))
            cost += sum(30 + _overlap(label.box, stroke) / 4 for stroke in strokes if _overlap(label.box, stroke))
            if label.leader:
                own = (points[i], leader_end(label, points[i]))
                cost += sum(60 for p in placed.values() if _crosses(p.box, own))
                cost += sum(25 for mark in others if _crosses(mark, own))
            if best is None or cost < best[0]:
                best = (cost, label)
        assert best is not None
        placed[i] = best[1]
        if best[1].leader:
            leaders.append((points[i], leader_end(best[1], points[i])))
    return [placed[i] for i in range(len(points))]
