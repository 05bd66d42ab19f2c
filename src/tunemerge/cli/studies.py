"""check, plan and run, as a person sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tunemerge.cli.bar import print_findings
from tunemerge.cli.progress import Watch
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.report.format import flops as show_flops
from tunemerge.report.format import seconds as show_seconds
from tunemerge.report.terminal import leaderboard
from tunemerge.strategies.setting import name_of
from tunemerge.study.estimate import Estimate, estimate
from tunemerge.study.plan import StudyPlan, ancestors
from tunemerge.study.study import Study


def check_study(path: Path, overrides: list[str]) -> int:
    """Print every finding; the exit code is 2 when one is an error."""
    console = Console()
    findings = Study.check_file(path, overrides)
    print_findings(findings, console)
    errors = sum(f.severity == "error" for f in findings)
    if errors:
        console.print(f"{path}: {errors} error{'s' * (errors > 1)}", style="bold red", highlight=False)
        return 2
    console.print(f"{path}: nothing stands in the way", style="green", highlight=False)
    return 0


def show_plan(path: Path, overrides: list[str]) -> None:
    """One row for each kind of step of the first seed, then totals over all seeds."""
    console = Console()
    study = Study.from_yaml(path, overrides)
    plan = study.plan()
    costs = estimate(plan, study.store)
    console.print(_arms_table(plan))
    console.print(_steps_table(plan, costs))
    print_findings(plan.findings, console)
    flops = sum(c.flops for c in costs.values())
    wall = sum(c.seconds for c in costs.values())
    disk = sum(c.disk for c in costs.values())
    workers = LocalExecutor().slots
    console.print(
        f"{len(plan.graph.steps)} steps for {len(plan.settings)} seeds, {len(costs)} of them to run: about "
        f"{show_flops(flops)}, {show_seconds(wall / workers)} on {workers} workers here, {disk / 1e9:.1f} GB of disk",
        highlight=False,
    )


def _arms_table(plan: StudyPlan) -> Table:
    table = Table(title="Arms (each seed)", title_justify="left")
    table.add_column("arm")
    table.add_column("role")
    table.add_column("examples", justify="right")
    table.add_column("graph")
    seed = next(iter(plan.settings))
    for arm in plan.arms:
        table.add_row(
            arm.name, arm.strategy.role, f"{plan.examples(arm, seed):,}", " ; ".join(map(expression, arm.nodes(seed)))
        )
    return table


def expression(node: Node) -> str:
    """An arm as one line: tune(ties(amazon, imdb), 16), steps after the model."""
    if isinstance(node, Leaf) or node.op == "init" or ": " not in node.label:
        return name_of(node)
    if node.op == "tune" and not node.label.startswith("tuned "):
        return name_of(node)  # a model of the pool: its own making is in the table of steps
    models = ", ".join(map(expression, node.inputs["model" if node.op == "tune" else "models"]))
    probe = node.params.get("tuning", {}).get("method") == "head"
    name = "probe" if probe else node.params.get("method", node.op)
    steps = f", {node.params['examples'] // node.params['tuning']['batch_size']}" if node.op == "tune" else ""
    return f"{name}({models}{steps})"


def _steps_table(plan: StudyPlan, costs: Mapping[str, Estimate]) -> Table:
    """The steps of the first seed, in the order in which they can run, with what each reads and who shares it."""
    seed = next(iter(plan.settings))
    users: dict[str, set[str]] = {}
    steps: dict[str, Step] = {}
    for (arm, s, _, _), predict in plan.predictions.items():
        if s == seed:
            for step in ancestors((predict,)):
                users.setdefault(step.key, set()).add(arm)
                steps[step.key] = step
    number = {s.key: i for i, s in enumerate((s for s in plan.graph.steps if s.key in steps), 1)}
    table = Table(title=f"Steps (seed {seed})", title_justify="left")
    for name, justify in (("#", "right"), ("step", "left"), ("reads", "left"), ("arms", "right"), ("about", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for key, i in number.items():
        step = steps[key]
        reads = ", ".join(str(number[p.key]) for p in dict.fromkeys(step.parents()) if p.key in number)
        shared = f"shared by {len(users[key])}" if len(users[key]) > 1 else ""
        about = show_flops(costs[key].flops) if key in costs else "in the store"
        table.add_row(str(i), step.label, reads, shared, about)
    return table


def run_and_show(study: Study) -> None:
    """Run with progress; then leaderboard, verdict, and where everything lies."""
    console = Console()
    with Watch(console) as watch:
        results = study.run(on_plan=watch.planned, on_event=watch)
    console.print(leaderboard(results))
    folder = study.run_folder
    console.print(f"report   {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if results.verdict.handed_back:
        console.print(f"model    {folder / 'model'}", highlight=False, soft_wrap=True)
