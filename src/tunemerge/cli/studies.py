"""check, run, export and clean, as a person sees them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tunemerge.cli.bar import print_findings
from tunemerge.cli.output import answer, as_dicts, screen
from tunemerge.cli.progress import Watch
from tunemerge.errors import UsageError
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.report import format as fmt
from tunemerge.report.terminal import leaderboard
from tunemerge.results import Results
from tunemerge.store.inventory import disk_usage
from tunemerge.store.journal import Journal
from tunemerge.study.estimate import forecast
from tunemerge.study.export import export_arm, is_at_hand, needed_keys
from tunemerge.study.plan import StudyPlan
from tunemerge.study.restore import restore, restoring_plan, steps_to_run
from tunemerge.study.run_folder import STUDY_FILE, read_results, store_of
from tunemerge.study.study import Study
from tunemerge.study.uses import RESULTS_FILE

# Of an arm, in the document of `tunemerge run --json`; all of it stands in results.json.
_SHOWN = ("name", "role", "handed_back", "matched", "deliverable", "validation", "test")


def check_study(path: Path, overrides: list[str]) -> int:
    """Print every finding; the exit code is 2 when one is an error."""
    console = screen()
    findings = Study.check_file(path, overrides)
    print_findings(findings, console)
    errors = sum(f.severity == "error" for f in findings)
    answer(file=path, findings=as_dicts(findings))
    if errors:
        console.print(f"{path}: {errors} error{'s' * (errors > 1)}", style="bold red", highlight=False)
        return 2
    console.print(f"{path}: nothing stands in the way", style="green", highlight=False)
    return 0


def run_and_show(study: Study) -> None:
    """Run with progress; then leaderboard, verdict, and where everything lies."""
    console = screen()
    print_findings(study.overwrites(), console)
    with Watch(console, LocalExecutor().slots) as watch:

        def planned(plan: StudyPlan) -> None:
            print_findings((f for f in plan.findings if f.severity == "warning" or f.code == "supervised"), console)
            watch.planned(plan, forecast(plan, study.store))

        results = study.run(on_plan=planned, on_event=watch)
    console.print(leaderboard(results))
    folder = study.run_folder
    lines = [f"report   {folder / 'report.html'}"]
    if results.verdict.handed_back:
        lines.append(f"model    {folder / 'model'}")
    size = fmt.memory(disk_usage(study.store.root))
    free = "; `tunemerge gc --keep winner` frees most of it" * (study.config.keep != "winner")
    lines.append(f"store    {size} in {study.store.root}{free}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    answer(
        run=folder,
        results=folder / RESULTS_FILE,
        report=folder / "report.html",
        model=folder / "model" if results.verdict.handed_back else None,
        verdict=results.verdict.model_dump(),
        metric=results.metric,
        arms=[{**a.model_dump(include=set(_SHOWN)), "examples": a.marginal.examples} for a in results.arms],
        store_bytes=disk_usage(study.store.root),
    )


def export_and_show(
    run: Path, out: Path, arm: str | None, task: str | None, seed: int | None, adapter: bool = False
) -> None:
    """Export, and say what it is that was written."""
    results, folder = read_results(run), run if run.is_dir() else run.parent
    console = screen()
    for key in needed_keys(results, arm, task, seed, adapter):
        at_hand = store_of(run).get(key) is not None if adapter else is_at_hand(store_of(run), folder / "model", key)
        if not at_hand:
            _make_again(folder, results, key, console)
    exported = export_arm(results, store_of(run), out, arm, task, seed, kept=folder / "model", adapter=adapter)
    chosen = next(a for a in results.arms if a.name == exported.arm)
    if exported.task:
        score, where = chosen.tasks[exported.task].score.value, f" on {exported.task}, a mean over seeds"
        asked = f", the model for {exported.task}"
    else:
        score = chosen.test_by_seed[results.seeds.index(exported.seed)]
        where = ", a mean over tasks" * (len(chosen.models) > 1)
        asked = ", one model for all tasks" * (task is not None)
    shown = f"test {fmt.metric_name(results.metric)} {fmt.score(score, results.metric)}{where}"
    form = ", the adapter, on the model in base/" * adapter
    text = f"{out}: {exported.arm}{form}, seed {exported.seed}{asked}; {shown}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    answer(out=out, arm=exported.arm, seed=exported.seed, task=exported.task, metric=results.metric, test=score)


def _make_again(folder: Path, results: Results, key: str, console: Console) -> None:
    """Compute a model that the store has let go, where the run's study still says how."""
    store = store_of(folder)
    if not (folder / STUDY_FILE).exists():
        return
    study = Study.from_yaml(folder / STUDY_FILE, workdir=folder.resolve().parent.parent)
    plan = study.plan()
    again = restoring_plan(plan, key)
    if again is None:
        text = f"{results.name}: the store has no step {key[:10]} any more, and data, settings or versions have changed"
        raise UsageError(f"{text} since: run the study again")
    steps = fmt.plural(steps_to_run(again, store), "step")
    console.print(f"the store let this model go; making it again: {steps}", highlight=False, style="dim")
    with Watch(console, LocalExecutor().slots) as watch:
        watch.expect(len(again.steps))
        restore(plan, again, store, Journal(folder / "journal.jsonl"), on_event=watch)
