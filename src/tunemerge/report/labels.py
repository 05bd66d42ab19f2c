"""Labels beside points that do not collide: with each other, with points, with the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunemerge.report.svg import text_width

Box = tuple[float, float, float, float]


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


def _crosses(box: Box, start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Does the segment run through the box? Sampled; exact enough for labels."""
    for i in range(1, 12):
        x, y = start[0] + (end[0] - start[0]) * i / 12, start[1] + (end[1] - start[1]) * i / 12
        if box[0] < x < box[2] and box[1] < y < box[3]:
            return True
    return False


def place(points: Sequence[tuple[float, float]], texts: Sequence[str], frame: Box, size: float) -> list[Label]:
    """Greedy: crowded points first, each label where it costs least among rings of candidates around its point."""
    radii = (9, 16, 26, 40, 56, 74, 96, 120, 150)
    marks: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    crowd = [sum(math.dist(p, q) < 60 for q in points) for p in points]
    placed: dict[int, Label] = {}
    leaders: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for i in sorted(range(len(points)), key=lambda i: (-crowd[i], points[i][1])):
        (px, py), width = points[i], text_width(texts[i], size)
        best: tuple[float, Label] | None = None
        for radius in radii:
            for angle in range(0, 360, 15):
                cx, cy = px + radius * math.cos(math.radians(angle)), py + radius * math.sin(math.radians(angle))
                left = (
                    cx
                    if math.cos(math.radians(angle)) > 0.2
                    else cx - width
                    if math.cos(math.radians(angle)) < -0.2
                    else cx - width / 2
                )
                box = (left - 2, cy - size * 0.62, left + width + 2, cy + size * 0.62)
                label = Label(texts[i], left, cy + size * 0.35, box, radius > 16)
                end = leader_end(label, (px, py))
                outside = (
                    max(0, frame[0] - box[0])
                    + max(0, box[2] - frame[2])
                    + max(0, frame[1] - box[1])
                    + max(0, box[3] - frame[3])
                )
                cost = radius + 0.05 * abs(math.sin(math.radians(angle))) * radius + 50 * outside
                cost += sum(4 * _overlap(box, other.box) for other in placed.values())
                cost += sum(4 * _overlap(box, mark) for j, mark in enumerate(marks) if j != i)
                cost += sum(60 for other in placed.values() if label.leader and _crosses(other.box, (px, py), end))
                cost += sum(60 for start, stop in leaders if _crosses(box, start, stop))
                cost += sum(
                    25 for j, mark in enumerate(marks) if j != i and label.leader and _crosses(mark, (px, py), end)
                )
                if best is None or cost < best[0]:
                    best = (cost, label)
        assert best is not None
        placed[i] = best[1]
        if best[1].leader:
            leaders.append(((px, py), leader_end(best[1], (px, py))))
    return [placed[i] for i in range(len(points))]
