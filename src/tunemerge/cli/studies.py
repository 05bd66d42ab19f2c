"""check, run, export and clean, as a person sees them."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console

from tunemerge.cli.bar import print_findings
from tunemerge.cli.progress import Watch
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.report import format as fmt
from tunemerge.report.terminal import leaderboard
from tunemerge.store.clean import disk_usage, finished_steps, remove_steps
from tunemerge.study.estimate import forecast
from tunemerge.study.export import export_arm
from tunemerge.study.plan import StudyPlan
from tunemerge.study.study import Study, read_results, store_of


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


def run_and_show(study: Study) -> None:
    """Run with progress; then leaderboard, verdict, and where everything lies."""
    console = Console()
    print_findings(study.overwrites(), console)
    with Watch(console, LocalExecutor().slots) as watch:

        def planned(plan: StudyPlan) -> None:
            print_findings((f for f in plan.findings if f.severity == "warning"), console)
            watch.planned(plan, forecast(plan, study.store))

        results = study.run(on_plan=planned, on_event=watch)
    console.print(leaderboard(results))
    folder = study.run_folder
    lines = [f"report   {folder / 'report.html'}"]
    if results.verdict.handed_back:
        lines.append(f"model    {folder / 'model'}")
    size = fmt.memory(disk_usage(study.store.root))
    lines.append(f"store    {size} in {study.store.root}: resume and export need it; `tunemerge clean` removes it")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def export_and_show(run: Path, out: Path, arm: str | None, task: str | None, seed: int | None) -> None:
    """Export, and say what it is that was written."""
    results, folder = read_results(run), run if run.is_dir() else run.parent
    exported = export_arm(results, store_of(run), out, arm, task, seed, kept=folder / "model")
    chosen = next(a for a in results.arms if a.name == exported.arm)
    if exported.task:
        score, where = chosen.tasks[exported.task].score.value, f" on {exported.task}, a mean over seeds"
        asked = f", the model for {exported.task}"
    else:
        score = chosen.test_by_seed[results.seeds.index(exported.seed)]
        where = ", a mean over tasks" * (len(chosen.models) > 1)
        asked = ", one model for all tasks" * (task is not None)
    shown = f"test {fmt.metric_name(results.metric)} {fmt.score(score, results.metric)}{where}"
    print(f"{out}: {exported.arm}, seed {exported.seed}{asked}; {shown}")


def clean_store(root: Path, agreed: bool) -> None:
    """Remove the finished steps of a store, once the person agrees."""
    steps, size = len(finished_steps(root)), fmt.memory(disk_usage(root))
    if not steps:
        print(f"{root}: no finished steps here, nothing to remove")
        return
    print(
        f"{root} holds {size}: {fmt.plural(steps, 'finished step')} of all studies in this folder.\n"
        "Runs keep their results, report and model. Without the steps a study starts anew when it is run again, and "
        "of a run only the model handed back can be exported."
    )
    if agreed or typer.confirm("Remove them?"):
        remove_steps(root)
        print("removed")
