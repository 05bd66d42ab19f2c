"""The graph of steps of one seed: what feeds what, what each step cost, which steps several arms share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from tunemerge.report import format as fmt
from tunemerge.report import view
from tunemerge.report.curves import seedless
from tunemerge.report.layout import Layout, layered
from tunemerge.report.svg import Svg, el, figure, fit, number, text, titled
from tunemerge.results import CostLine, Results, StepResult

_W, _H, _GAP, _COLUMN, _PAD = 264.0, 82.0, 14.0, 328.0, 16.0
OPERATIONS = ("init", "tune", "merge", "search", "predict")
_CHOICES = ("choose", "pick", "select")  # drawn as a search


@dataclass(frozen=True)
class Node:
    """One box: a step, or all predictions from the same models."""

    keys: tuple[str, ...]
    op: str
    label: str
    arms: tuple[str, ...]
    parents: tuple[str, ...]
    flops: float
    seconds: float


def drawn_seed(results: Results) -> int | None:
    """The seed whose model is handed back, or the first that has steps."""
    seeds = [s.seed for s in results.steps if s.seed is not None]
    if results.verdict.handed_back_seed in seeds:
        return results.verdict.handed_back_seed
    return seeds[0] if seeds else None


def _steps_of(results: Results, seed: int | None) -> list[StepResult]:
    """The seed's steps, all that they were made from, and the arms whose steps are the same for every seed."""
    by_key = {s.key: s for s in results.steps}
    own = {s.key for s in results.steps if s.seed in (None, seed)}
    for arm in results.arms:
        if not own.intersection(arm.steps):
            own.update(arm.steps)
    pending = list(own)
    while pending:
        step = by_key.get(pending.pop())
        new = set(step.inputs) - own if step else set()
        own |= new
        pending += new
    return [s for s in results.steps if s.key in own]


def nodes(results: Results, seed: int | None) -> dict[str, Node]:
    """Boxes of one seed's graph, by the key of the first step in each."""
    steps = _steps_of(results, seed)
    known = {s.key for s in steps}
    groups: dict[tuple[object, ...], list[StepResult]] = {}
    for step in steps:
        parents = tuple(k for k in step.inputs if k in known)
        same = (step.op, parents, tuple(step.arms)) if step.op in ("predict", "control") else (step.key,)
        groups.setdefault(same, []).append(step)
    found = {}
    for group in groups.values():
        first = group[0]
        label = seedless(first.label)
        if len(group) > 1:
            rows = (s.label.partition(":")[0].removeprefix("predict ") for s in group)
            tasks = dict.fromkeys(name.rpartition(" ")[0] or name for name in rows)
            label = f"{len(group)} predictions: {', '.join(tasks)}"
        found[first.key] = Node(
            tuple(s.key for s in group), first.op, label, tuple(dict.fromkeys(a for s in group for a in s.arms)),
            tuple(k for k in first.inputs if k in known), sum(fmt.all_flops(s.cost) for s in group),
            sum(s.cost.seconds for s in group),
        )  # fmt: skip
    return found


def _edge(parent: str, child: str, plan: Layout, cls: str) -> Svg:
    """A smooth line from the right side of a box through its passages to the left side of another."""
    spots = [(_PAD + plan.column[parent] * _COLUMN + _W, plan.y[parent] + _H / 2 + _PAD)]
    for column, y in plan.bends[parent, child]:
        spots += [(_PAD + column * _COLUMN, y + _PAD), (_PAD + column * _COLUMN + _W, y + _PAD)]
    spots.append((_PAD + plan.column[child] * _COLUMN, plan.y[child] + _H / 2 + _PAD))
    d = f"M{number(spots[0][0])} {number(spots[0][1])}"
    for i, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(spots)):
        if i % 2:  # along a passage
            d += f"L{number(x1)} {number(y1)}"
        else:
            half = (x0 + x1) / 2
            d += f"C{number(half)} {number(y0)} {number(half)} {number(y1)} {number(x1)} {number(y1)}"
    return el("path", d=d, cls=cls, fill="none")


def _box(node: Node, x: float, y: float, handed: str | None) -> Svg:
    op = "search" if node.op in _CHOICES else node.op if node.op in OPERATIONS else "other"
    shared = len(node.arms) > 1
    cost = f"{fmt.flops(node.flops)} · {fmt.seconds(node.seconds)}" if node.flops else fmt.seconds(node.seconds)
    tip = f"{node.op}: {node.label} ({', '.join(map(fmt.short, node.keys))}); {cost}; {', '.join(node.arms)}"
    classes = f"box op-{op}{' shared' if shared else ''}{' path' if handed in node.arms else ''}"
    users = f"shared by {len(node.arms)} arms" if shared else "".join(node.arms)
    name, _, how = node.label.partition(": ")
    parts = [
        el("rect", x=x, y=y, width=_W, height=_H, rx=7, cls=classes),
        el("rect", x=x + 6, y=y + 8, width=4, height=_H - 16, rx=2, cls=f"strip op-{op}"),
        text(x + 19, y + 21, fit(name, _W - 26, 12, bold=True), "name strong"),
        text(x + 19, y + 37, fit(how, _W - 26, 11.5), "users"),
        text(x + 19, y + 54, fit(users, _W - 26, 11.5), "users"),
        text(x + 19, y + 71, f"{fmt.short(node.keys[0])} · {cost}", "cost"),
    ]
    return titled(tip, *parts)


def graph(results: Results, ident: str) -> Svg | None:
    """The picture, or None when there are no steps. Boxes with a double frame are shared by several arms."""
    seed = drawn_seed(results)
    found: Mapping[str, Node] = nodes(results, seed)
    if not found:
        return None
    plan = layered({key: node.parents for key, node in found.items()}, _H, _GAP)
    handed = results.verdict.handed_back
    plain: list[Svg] = []
    bold: list[Svg] = []
    for child, node in found.items():
        for parent in dict.fromkeys(node.parents):
            if parent not in found:
                continue
            on_path = handed in node.arms and handed in found[parent].arms
            (bold if on_path else plain).append(_edge(parent, child, plan, "edge path" if on_path else "edge"))
    boxes = [_box(node, _PAD + plan.column[key] * _COLUMN, plan.y[key] + _PAD, handed) for key, node in found.items()]
    width = 2 * _PAD + max(plan.column.values()) * _COLUMN + _W
    cost = _sum(results, found)
    shared = sum(len(n.arms) > 1 for n in found.values())
    desc = f"{fmt.plural(len(found), 'box', 'boxes')}, {shared} shared by several arms; {cost} in all."
    title = "Graph of steps" + (f" of {view.run_name(results, seed)}" if seed is not None else "")
    return figure(ident, title, desc, [*plain, *bold, *boxes], width=width, height=plan.height + 2 * _PAD, cls="dag")


def _sum(results: Results, found: Mapping[str, Node]) -> str:
    keys = {k for n in found.values() for k in n.keys}
    costs: list[CostLine] = [s.cost for s in results.steps if s.key in keys]
    return f"{fmt.flops(sum(map(fmt.all_flops, costs)))} and {fmt.seconds(sum(c.seconds for c in costs))}"
