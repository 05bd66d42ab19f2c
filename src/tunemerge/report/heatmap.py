"""Task x arm heat map: the number in every cell, a sequential scale of seven classes behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunemerge.report import format as fmt
from tunemerge.report.svg import Svg, el, fence, figure, fit, text, text_width, titled
from tunemerge.results import ArmResult, Results, TaskInfo, TaskScore

CLASSES = 7
_ROW, _HEAD, _ABOVE = 34.0, 46.0, 22.0


@dataclass(frozen=True)
class _Scale:
    """What every cell is judged against: the lowest and highest score but for outliers, the best of each task."""

    low: float
    high: float
    higher_is_better: bool
    best: dict[str, float]

    def shade(self, value: float) -> int:
        """Class 0 (worst) to 6 (best)."""
        if self.high <= self.low:
            return CLASSES // 2
        part = (value - self.low) / (self.high - self.low)
        return max(0, min(CLASSES - 1, int((part if self.higher_is_better else 1 - part) * CLASSES)))


def _scale(arms: Sequence[ArmResult], tasks: Sequence[TaskInfo], higher: bool) -> _Scale:
    by_task = {t.name: [a.tasks[t.name].score.value for a in arms if t.name in a.tasks] for t in tasks}
    values = [v for found in by_task.values() for v in found]
    best = {task: (max if higher else min)(found) for task, found in by_task.items()}
    low, high = fence(values) if values else (0.0, 0.0)
    return _Scale(low, high, higher, best)


def _tip(arm: str, task: str, found: TaskScore, metric: str) -> str:
    notes = [f"{arm} on {task}: {fmt.score(found.score.value, metric)} {fmt.interval(found.score, metric)}"]
    if found.normalised is not None:
        notes.append(f"{100 * found.normalised:.0f}% of the task's own expert")
    if found.forgetting is not None:
        notes.append(f"forgetting {fmt.difference(found.forgetting, metric)}")
    return "; ".join(notes)


def _cell(arm: ArmResult, task: str, x: float, y: float, wide: float, metric: str, scale: _Scale) -> Svg:
    found, middle = arm.tasks.get(task), x + wide / 2
    if found is None:
        return text(middle, y + 21.5, fmt.NONE, "name", "middle")
    value = found.score.value
    level, best = scale.shade(value), value == scale.best[task]
    shown = fmt.score(value, metric)
    parts = [
        el("rect", x=x + 1, y=y + 1, width=wide - 2, height=_ROW - 2, rx=4, cls=f"h{level}"),
        text(middle, y + 21.5, shown, f"ht{level}{' strong' if best else ''}", "middle"),
    ]
    if best:
        parts.append(text(middle + text_width(shown, 13, bold=True) / 2 + 1, y + 21.5, "▲", f"ht{level} small"))
    return titled(_tip(arm.name, task, found, metric), *parts)


def heatmap(results: Results, ident: str, *, narrow: bool = False) -> Svg:
    """Rows: arms in the order given; columns: tasks with their role. The best of a column is bold with a triangle.

    Narrow, for a phone: an arm's name stands above its cells, not beside them.
    """
    arms = results.arms
    tasks = [t for t in results.tasks if any(t.name in a.tasks for a in arms)]
    scale = _scale(arms, tasks, results.higher_is_better)
    wide = max(72.0, 344 / max(1, len(tasks))) if narrow else 104.0
    left = 0.0 if narrow else min(300.0, max(text_width(a.name, 13) for a in arms) + 28)
    width, row = left + wide * len(tasks), _ROW + (_ABOVE if narrow else 0)
    body: list[Svg] = []
    for j, task in enumerate(tasks):
        middle = left + wide * (j + 0.5)
        head = fit(task.name, wide - 6, 13, bold=True)
        body.append(titled(task.name, text(middle, 18, head, "name strong", "middle")))
        body.append(text(middle, 35, task.role, "label", "middle"))
    for i, arm in enumerate(arms):
        y, star = _HEAD + row * i, " ★" if arm.handed_back else ""
        if narrow:
            name = text(2, y + 16, fit(arm.name, width - 24, 13) + star, "name")
        else:
            name = text(left - 8, y + 21.5, fit(arm.name, left - 28, 13) + star, "name", "end")
        body.append(titled(arm.name, name))
        for j, task in enumerate(tasks):
            top = y + row - _ROW
            body.append(_cell(arm, task.name, left + wide * j, top, wide, results.metric, scale))
    leads = "; ".join(f"{task}: best {fmt.score(value, results.metric)}" for task, value in scale.best.items())
    title = "Test score of every arm on every task"
    height = _HEAD + row * len(arms)
    return figure(ident, title, f"{leads}.", body, width=width, height=height, cls="heat")
