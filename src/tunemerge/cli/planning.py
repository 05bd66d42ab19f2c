"""`tunemerge plan`, as a person sees it: what it costs, the arms, the steps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tunemerge.cli.bar import print_findings
from tunemerge.cli.output import answer, as_dicts, screen
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.report import format as fmt
from tunemerge.study.estimate import Estimate, Forecast, forecast
from tunemerge.study.plan import StudyPlan, ancestors
from tunemerge.study.study import Study


def show_plan(path: Path, overrides: list[str], every_step: bool) -> None:
    """Totals over all seeds, then arms and steps of the first; predictions folded unless `every_step`."""
    console = screen()
    study = Study.from_yaml(path, overrides)
    plan = study.plan()
    costs = forecast(plan, study.store)
    for line in totals(plan, costs, LocalExecutor().slots, study.store.root):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    print_findings(plan.findings, console)
    console.print()
    console.print(_arms_table(plan))
    console.print(_steps_table(plan, costs.steps, every_step))
    answer(**_document(study, plan, costs, [s.key for s in plan.graph.steps]), findings=as_dicts(plan.findings))


def show_dry_run(path: Path, overrides: list[str]) -> None:
    """Every step that a run would compute, in an order in which it may, and what else the run would do."""
    console = screen()
    study = Study.from_yaml(path, overrides)
    plan = study.plan()
    costs = forecast(plan, study.store)
    findings = [*study.overwrites(), *plan.findings]
    print_findings(findings, console)
    left = [s for s in plan.graph.steps if s.key in costs.steps]
    if left:
        columns = [("#", "right"), ("step", "left"), ("seconds", "right"), ("disk", "right"), ("memory", "right")]
        table = _table("Would run", *columns)
        for number, step in enumerate(left, 1):
            e = costs.steps[step.key]
            disk = fmt.memory(e.disk) if e.disk else ""
            table.add_row(str(number), Text(step.label), fmt.seconds(e.seconds), disk, fmt.memory(e.memory))
        console.print(table)
    for line in totals(plan, costs, LocalExecutor().slots, study.store.root):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    text = f"would write {study.run_folder}; nothing was written"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    answer(**_document(study, plan, costs, [s.key for s in left]), findings=as_dicts(findings))


def _document(study: Study, plan: StudyPlan, costs: Forecast, keys: Collection[str]) -> dict[str, Any]:
    """What a plan and a dry run say with --json; `steps` are those of `keys`."""
    seed, users = next(iter(plan.settings)), plan.users()
    pool = {node.key for node in plan.settings[seed].pool.values()}
    wanted = set(keys)
    return {
        "name": plan.config.name,
        "run": study.run_folder,
        "store": study.store.root,
        "steps_total": len(plan.graph.steps),
        "steps_to_run": len(costs.steps),
        "seconds": costs.wall(LocalExecutor().slots),
        "flops": sum(e.flops for e in costs.steps.values()),
        "disk": sum(e.disk for e in costs.steps.values()),
        "arms": [
            {
                "name": arm.name,
                "role": arm.strategy.role,
                "examples": plan.examples(arm, seed),
                "graph": " ; ".join(expression(node, pool) for node in arm.nodes(seed)),
            }
            for arm in plan.arms
        ],
        "steps": [
            {
                "key": step.key,
                "op": step.op,
                "label": step.label,
                "arms": users[step.key][0],
                "seed": users[step.key][1],
                "inputs": list(dict.fromkeys(n.key for n in step.parents())),
                "estimate": asdict(costs.steps[step.key]) if step.key in costs.steps else None,
            }
            for step in plan.graph.steps
            if step.key in wanted
        ],
    }


def totals(plan: StudyPlan, costs: Forecast, workers: int, store: Path) -> Iterator[str]:
    """What is left to run, and what that takes."""
    steps, seeds = fmt.plural(len(plan.graph.steps), "step"), fmt.plural(len(plan.settings), "seed")
    left = len(costs.steps)
    there = "all to run" if left == len(plan.graph.steps) else f"{left:,} to run, the others are in the store"
    yield f"{plan.config.name}: {len(plan.arms)} arms, {seeds}, {steps}: {there}"
    if not left:
        return
    wall = costs.wall(workers)
    time = "a time that nobody knows before something has run on this device"
    if wall is not None:
        time = f"{fmt.seconds_range(*wall)} on {fmt.plural(workers, 'worker')} here"
    flops, disk = (sum(getattr(e, what) for e in costs.steps.values()) for what in ("flops", "disk"))
    keep = plan.config.keep
    stays = f" while it runs, then {fmt.memory(_stays(plan, costs))} (keep: {keep})" * (keep != "all")
    yield f"about {fmt.flops(flops)}; {time}; {fmt.memory(disk)} of disk in {store}{stays}"
    most = max(e.memory for e in costs.steps.values())
    yield f"about {fmt.memory(most)} of memory a worker at most, and what a batch takes on its way through the layers"


def _stays(plan: StudyPlan, costs: Forecast) -> int:
    """Bytes of models that are left when the run has finished, as the study's `keep` says."""
    each = max(e.disk for e in costs.steps.values())
    answers = {node.key for arm in plan.arms for seed in plan.settings for node in arm.nodes(seed)}
    return each * (1 if plan.config.keep == "winner" else len(answers))


def _table(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _arms_table(plan: StudyPlan) -> Table:
    table = _table("Arms (each seed)", ("arm", "left"), ("role", "left"), ("examples", "right"), ("graph", "left"))
    seed = next(iter(plan.settings))
    pool = {node.key for node in plan.settings[seed].pool.values()}
    for arm in plan.arms:
        graph = " ; ".join(expression(node, pool) for node in arm.nodes(seed))
        table.add_row(arm.name, arm.strategy.role, f"{plan.examples(arm, seed):,}", Text(graph))
    return table


def expression(node: Node, pool: set[str]) -> str:
    """An arm as one line: tune(ties(amazon, imdb), 16), optimizer steps after the model; `pool` are given by name."""
    if isinstance(node, Leaf) or node.op == "init" or node.key in pool:
        return node.name
    if node.op == "select":
        return _selected(node, pool)
    models = ", ".join(expression(n, pool) for n in node.inputs["model" if node.op == "tune" else "models"])
    probe = node.params.get("tuning", {}).get("method") == "head"
    name = "probe" if probe else node.params.get("method", node.op)
    steps = f", {node.params['examples'] // node.params['tuning']['batch_size']}" if node.op == "tune" else ""
    trials = node.params.get("search", {}).get("trials")
    return f"best of {trials} {name}({models}{steps})" if trials else f"{name}({models}{steps})"


def _selected(node: Step, pool: set[str]) -> str:
    """best of 3 rates: tune(...), best of linear, ties(...), best of (..., ...)."""
    (choice,) = node.inputs["choice"]
    assert isinstance(choice, Step)
    candidates = choice.params["candidates"]
    first = expression(node.inputs["models"][0], pool)
    if "learning_rate" in candidates[0]:
        return f"{first} at the best of {len(candidates)} rates"
    if "method" in candidates[0]:
        return f"best of {'|'.join(c['method'] for c in candidates)}({first.partition('(')[2]}"
    return f"best of ({', '.join(expression(n, pool) for n in node.inputs['models'])})"


# Steps that yield predictions: a checkpoint's, and a simple model's.
_PREDICT = ("predict", "control")


def _steps_table(plan: StudyPlan, costs: Mapping[str, Estimate], every_step: bool) -> Table:
    """The steps of the first seed, in the order in which they can run, with what each reads and who shares it.

    Unless `every_step`, a search or choice is part of what it is for, and predictions are one row a split.
    """
    seed = next(iter(plan.settings))
    users: dict[str, set[str]] = {}
    for (arm, s, _, _), prediction in plan.predictions.items():
        for step in ancestors((prediction,)) if s == seed else ():
            users.setdefault(step.key, set()).add(arm)
    steps = [s for s in plan.graph.steps if s.key in users]
    folded = () if every_step else ("search", "choose", "pick", "score", *_PREDICT)
    shown = [s for s in steps if s.op not in folded]
    number = {s.key: i for i, s in enumerate(shown, 1)}
    table = _table(
        f"Steps (seed {seed})",
        ("#", "right"),
        ("step", "left"),
        ("reads", "left"),
        ("arms", "right"),
        ("cost", "right"),
    )
    for step in shown:
        reads = ", ".join(str(number[p.key]) for p in dict.fromkeys(step.parents()) if p.key in number)
        group = [step, *(p for p in step.parents() if isinstance(p, Step) and p.op in folded and p.op not in _PREDICT)]
        table.add_row(str(number[step.key]), Text(step.label), reads, str(len(users[step.key])), _cost(group, costs))
    predictions = sorted((s for s in steps if s.op in _PREDICT and s.op in folded), key=_rows)
    for rows, found in groupby(predictions, key=_rows):
        group = list(found)
        arms = {arm for s in group for arm in users[s.key]}
        what = f"{fmt.plural(len(group), 'prediction')} of {rows}"
        table.add_row("", Text(what), "", str(len(arms)), _cost(group, costs))
    if folded:
        table.caption, table.caption_justify = "every search, choice and prediction by itself: --steps", "left"
    return table


def _rows(prediction: Step) -> str:
    return prediction.inputs["rows"][0].label


def _cost(steps: list[Step], costs: Mapping[str, Estimate]) -> str:
    left = [costs[s.key] for s in steps if s.key in costs]
    if not left:
        return "in the store"
    part = "" if len(left) == len(steps) else f" ({len(left)} to run)"
    flops = sum(e.flops for e in left)
    return (fmt.flops(flops) if flops else "–") + part
