"""Task x arm heat map: the number in every cell, a sequential scale of seven classes behind it."""

from __future__ import annotations

from collections.abc import Sequence

from tunemerge.report import format as fmt
from tunemerge.report.svg import Svg, el, figure, fit, text, text_width, titled
from tunemerge.study.results import ArmResult, Results, TaskInfo

CLASSES = 7
_ROW, _COLUMN, _HEAD = 34.0, 96.0, 46.0


def shade(value: float, low: float, high: float, higher_is_better: bool) -> int:
    """Class 0 (worst) to 6 (best)."""
    if high <= low:
        return CLASSES // 2
    part = (value - low) / (high - low)
    return min(CLASSES - 1, int((part if higher_is_better else 1 - part) * CLASSES))


def _best(arms: Sequence[ArmResult], task: str, higher: bool) -> float:
    values = [a.tasks[task].score.value for a in arms if task in a.tasks]
    return max(values) if higher else min(values)


def _cell(
    arm: ArmResult, task: TaskInfo, x: float, y: float, results: Results, bounds: tuple[float, float], best: float
) -> Svg:
    found = arm.tasks.get(task.name)
    if found is None:
        return text(x + _COLUMN / 2, y + 21, fmt.NONE, "name", "middle")
    value = found.score.value
    level = shade(value, *bounds, results.higher_is_better)
    shown = fmt.score(value, results.metric)
    notes = [f"{fmt.interval(found.score, results.metric)}"]
    if found.normalised is not None:
        notes.append(f"{100 * found.normalised:.0f}% of the task's own expert")
    if found.forgetting is not None:
        notes.append(f"forgetting {fmt.difference(found.forgetting, results.metric)}")
    tip = f"{arm.name} on {task.name}: {shown} " + "; ".join(notes)
    parts = [el("rect", x=x + 1, y=y + 1, width=_COLUMN - 2, height=_ROW - 2, rx=4, cls=f"h{level}")]
    parts += [text(x + _COLUMN / 2, y + 21.5, shown, f"ht{level}{' strong' if value == best else ''}", "middle")]
    if value == best:
        left = x + _COLUMN / 2 + text_width(shown, 13) / 2 + 3
        parts += [text(left, y + 21.5, "▲", f"ht{level} small")]
    return titled(tip, *parts)


def heatmap(results: Results, ident: str) -> Svg:
    """Rows: arms in the order given; columns: tasks with their role. The best of each column is bold with a triangle."""
    arms = results.arms
    tasks = [t for t in results.tasks if any(t.name in a.tasks for a in arms)]
    values = [a.tasks[t.name].score.value for a in arms for t in tasks if t.name in a.tasks]
    bounds = (min(values, default=0.0), max(values, default=0.0))
    left = min(210.0, max(text_width(a.name, 13) for a in arms) + 26)
    width, height = left + _COLUMN * len(tasks), _HEAD + _ROW * len(arms)
    body: list[Svg] = []
    for j, task in enumerate(tasks):
        middle = left + _COLUMN * (j + 0.5)
        body.append(titled(task.name, text(middle, 18, fit(task.name, _COLUMN - 8, 13), "name strong", "middle")))
        body.append(text(middle, 35, task.role, "label", "middle"))
    for i, arm in enumerate(arms):
        y = _HEAD + _ROW * i
        name = fit(arm.name, left - 26, 13) + (" ★" if arm.handed_back else "")
        body.append(titled(arm.name, text(left - 8, y + 21.5, name, "name", "end")))
        for j, task in enumerate(tasks):
            best = _best(arms, task.name, results.higher_is_better)
            body.append(_cell(arm, task, left + _COLUMN * j, y, results, bounds, best))
    leads = "; ".join(
        f"{t.name}: best {fmt.score(_best(arms, t.name, results.higher_is_better), results.metric)}" for t in tasks
    )
    return figure(
        ident, "Test score of every arm on every task", f"{leads}.", body, width=width, height=height, cls="heat"
    )
