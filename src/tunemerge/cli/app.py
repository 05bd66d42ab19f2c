"""All commands, one function each, in the order in which a person meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunemerge.cli import complete
from tunemerge.cli.group import Commands
from tunemerge.cli.output import Json, answer, print_json, screen

app = typer.Typer(
    name="tunemerge",
    cls=Commands,
    help="Merge then tune, or tune then merge? Runs both orders on your models and data, at equal cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyFile = Annotated[Path, typer.Argument(help="the study file", metavar="STUDY.YAML")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="override a key, e.g. -s tuning.learning_rate=1e-4"),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.PY",
        help="a file of your own that is used (in studies: `plugins`)",
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="a run's folder", metavar="RUNS/NAME")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("tunemerge"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    pass


def _load(plugins: list[Path] | None) -> None:
    if plugins:
        from tunemerge.findings import refuse_errors
        from tunemerge.plugins import load_plugins

        refuse_errors(load_plugins({f"--plugin {path}": path for path in plugins}))


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="fewer arms and seeds: under 90 seconds")] = False,
    json: Json = False,
) -> None:
    """Run a real study on real parts: MiniLM, and reviews of three sites."""
    from tunemerge.cli.studies import run_and_show
    from tunemerge.demo import demo_study

    run_and_show(demo_study(quick))


@app.command()
def init(
    data: Annotated[list[Path], typer.Argument(help="tables (CSV, JSONL, Parquet, NPZ), folders of them or of images")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="[TASK=]MODEL", help="a model for the pool: folder, package:NAME/PATH or Hub id"),
    ] = None,
    base: Annotated[str | None, typer.Option(help="the shared ancestor of the models")] = None,
    target: Annotated[str | None, typer.Option(help="the one task that counts")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="what the study may take on this machine")] = 20,
    text: Annotated[str | None, typer.Option(help="column of the text")] = None,
    label: Annotated[str | None, typer.Option(help="column to predict: labels, or numbers")] = None,
    kind: Annotated[str | None, typer.Option(help="kind of task (`tunemerge list tasks`)")] = None,
    labels: Annotated[str | None, typer.Option(metavar="RAW=NAME,...", help="what raw labels are called")] = None,
    unit: Annotated[str | None, typer.Option(help="column of what is one piece of evidence, or none")] = None,
    weight: Annotated[str | None, typer.Option(help="column of row weights, or none")] = None,
    date: Annotated[str | None, typer.Option(help="column of the time to split by, or none")] = None,
    task_by: Annotated[str | None, typer.Option(help="column whose values are tasks (a site), or none")] = None,
    only: Annotated[str | None, typer.Option(metavar="TASK,...", help="take only these tasks")] = None,
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="replace the file where it is there already")] = False,
    json: Json = False,
) -> None:
    """Write a study file from your data and models; in a terminal it asks what it can't know."""
    from tunemerge.cli.starting import pairs, start
    from tunemerge.propose.questions import Answers

    answers = Answers(
        text=text,
        label=label,
        unit=unit,
        weight=weight,
        date=date,
        task_by=task_by,
        kind=kind,
        labels=None if labels is None else pairs(labels),
        only=None if only is None else tuple(name.strip() for name in only.split(",")),
        base=base,
        target=target,
        models=tuple(model or ()),
        minutes=minutes,
    )
    start(data, answers, out, force)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="a study file or a recipe", metavar="STUDY.YAML|RECIPE.YAML")],
    set_: Set = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Every finding at once: models, data, labels, tokenizers, disk. Nothing is trained, downloaded or written."""
    from tunemerge.cli.merging import check_recipe, is_recipe

    _load(plugin)
    if is_recipe(file):
        raise typer.Exit(check_recipe(file))
    from tunemerge.cli.studies import check_study

    raise typer.Exit(check_study(file, set_ or []))


@app.command()
def plan(
    study: StudyFile,
    set_: Set = None,
    steps: Annotated[bool, typer.Option("--steps", help="every search and prediction by itself")] = False,
    json: Json = False,
) -> None:
    """What it will cost here, the arms, and the steps as a table with who shares them."""
    from tunemerge.cli.planning import show_plan

    show_plan(study, set_ or [], steps)


@app.command()
def run(
    study: StudyFile,
    set_: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the steps that would run, write nothing")] = False,
    json: Json = False,
) -> None:
    """Run the study; running again resumes it. Writes runs/NAME with results, report and model."""
    if dry_run:
        from tunemerge.cli.planning import show_dry_run

        show_dry_run(study, set_ or [])
        return
    from tunemerge.cli.studies import run_and_show
    from tunemerge.study.study import Study

    run_and_show(Study.from_yaml(study, set_))


@app.command()
def report(run: RunFolder, json: Json = False) -> None:
    """Write the HTML page and the Markdown summary again, from results.json alone."""
    from tunemerge.report import write_report
    from tunemerge.study.run_folder import read_results

    folder = run if run.is_dir() else run.parent
    write_report(read_results(run), folder)
    screen().print(f"{folder / 'report.html'}\n{folder / 'report.md'}", highlight=False, markup=False, soft_wrap=True)
    answer(html=folder / "report.html", markdown=folder / "report.md")


@app.command()
def compare(
    first: RunFolder,
    second: Annotated[Path, typer.Argument(help="the run to compare it with", metavar="RUNS/OTHER")],
    json: Json = False,
) -> None:
    """Two runs on the same test rows: leaderboards side by side, paired differences, what differs in the studies."""
    from tunemerge.cli.comparing import compare_and_show

    compare_and_show(first, second)


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="folder to write", metavar="OUT")],
    arm: Annotated[
        str | None, typer.Option(help="another arm than the one handed back", autocompletion=complete.arms)
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="the task, for arms with a model each", autocompletion=complete.tasks)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="another seed than the one with the median score")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="the adapter alone, for PEFT, and the model that it is on in OUT/base")
    ] = False,
    json: Json = False,
) -> None:
    """Write an arm's model as a plain Hugging Face folder with a model card."""
    from tunemerge.cli.studies import export_and_show

    export_and_show(run, out, arm, task, seed, adapter)


@app.command()
def flips(
    run: RunFolder,
    arm: Annotated[
        str, typer.Option(help="the arm whose gains and losses are asked for", autocompletion=complete.arms)
    ],
    against: Annotated[
        str,
        typer.Option(help="the arm it is laid beside; `incumbent` for what runs today", autocompletion=complete.arms),
    ],
    task: Annotated[str | None, typer.Option(help="one task alone", autocompletion=complete.tasks)] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for all rows that flip")] = None,
    json: Json = False,
) -> None:
    """Which test rows one arm answers rightly and another wrongly, example by example."""
    from tunemerge.cli.flips import show_flips

    show_flips(run, arm, against, task, out)


@app.command()
def ls(json: Json = False) -> None:
    """Every finished step in this folder's store: what it is, for which runs, arms and seed, its size, age and cost."""
    from tunemerge.cli.store import list_steps

    list_steps(Path.cwd())


@app.command()
def gc(
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="what stays: all, models or winner of every finished run, a RUN, an age (7d), a size (5GB), or "
            "nothing; may be repeated [default: what each study's `keep:` says]",
            autocompletion=complete.keeps,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="remove without asking")] = False,
    json: Json = False,
) -> None:
    """Have the disk back: show what would go from the store of all studies in this folder, ask, and remove it.

    Steps of no run go whole. Of runs' steps only models go: results, report, predictions and costs stay. What a live
    run needs is never touched.
    """
    from tunemerge.cli.store import collect_garbage

    collect_garbage(Path.cwd(), keep or [], yes)


@app.command()
def verify(json: Json = False) -> None:
    """Read every byte of the store again: flipped bits, missing and added files are named; exit code 1."""
    from tunemerge.cli.store import verify_all

    raise typer.Exit(verify_all(Path.cwd()))


@app.command()
def merge(
    recipe: Annotated[Path, typer.Argument(help="a recipe in mergekit's format, or a merged model", metavar="RECIPE")],
    out: Annotated[Path, typer.Argument(help="folder to write", metavar="OUT")],
    random_seed: Annotated[
        int | None, typer.Option("--random-seed", "--seed", help="for methods that drop at random [default: 0]")
    ] = None,
    out_shard_size: Annotated[str, typer.Option(help="most bytes in a weight file, e.g. 500M, 2GB")] = "5B",
    copy_tokenizer: Annotated[bool, typer.Option(help="write a tokenizer into OUT")] = True,
    device: Annotated[str, typer.Option(help="for spectral methods: auto, cpu or cuda")] = "auto",
    allow_crimes: Annotated[
        bool, typer.Option("--allow-crimes", help="merge models that don't fit; says what it waives")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", "-j", help="default: as many as there are cores")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and all findings, write nothing")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Merge models by a recipe, or make a merged model again from the recipe in its own files."""
    from tunemerge.cli.kernels import prepare

    prepare()
    _load(plugin)
    from tunemerge.cli.merging import merge_one

    code = merge_one(
        recipe,
        out,
        seed=random_seed,
        shard_size=out_shard_size,
        copy_tokenizer=copy_tokenizer,
        device=device,
        allow_crimes=allow_crimes,
        threads=threads,
        dry_run=dry_run,
    )
    raise typer.Exit(code)


@app.command("extract-lora")
def extract_lora(
    model: Annotated[str, typer.Argument(help="the tuned model: folder, package:NAME/PATH or Hub id")],
    out: Annotated[Path, typer.Argument(help="folder to write", metavar="OUT")],
    base: Annotated[str, typer.Option(help="the model that it was tuned from")],
    rank: Annotated[int | None, typer.Option(help="largest rank (32 where neither it nor energy is given)")] = None,
    energy: Annotated[float | None, typer.Option(help="least share of each change's energy, e.g. 0.95")] = None,
    whole: Annotated[list[str] | None, typer.Option(help="part of the names of tensors to keep whole")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="part of the names of tensors to leave out")] = None,
    device: Annotated[str, typer.Option(help="where torch computes: auto, cpu or cuda")] = "auto",
    json: Json = False,
) -> None:
    """The low-rank adapter (PEFT) of what tuning changed."""
    from tunemerge.cli.adapters import extract_one

    extract_one(model, base, out, rank, energy, whole or [], skip or [], device)


@app.command("merge-lora")
def merge_lora(
    adapters: Annotated[list[str], typer.Argument(help="LoRA adapters of one base: folders or Hub ids")],
    out: Annotated[Path, typer.Argument(help="folder to write", metavar="OUT")],
    method: Annotated[
        str,
        typer.Option(
            help="cat (exact), svd (to a rank) or knots (aligned, then a rule)", autocompletion=complete.adapter_methods
        ),
    ] = "cat",
    weight: Annotated[list[float] | None, typer.Option(help="one an adapter; equal shares where none is given")] = None,
    rank: Annotated[int | None, typer.Option(help="largest rank of the result, for svd and knots")] = None,
    energy: Annotated[float | None, typer.Option(help="least share of the energy kept, for svd and knots")] = None,
    rule: Annotated[
        str,
        typer.Option(help="knots: the task-vector method that merges what was aligned", autocompletion=complete.rules),
    ] = "ties",
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="a parameter of the rule")
    ] = None,
    random_seed: Annotated[int, typer.Option(help="seed of rules that drop at random")] = 0,
    json: Json = False,
) -> None:
    """Merge LoRA adapters into one adapter, without their base."""
    from tunemerge.cli.adapters import merge_adapters_one

    merge_adapters_one(adapters, out, method, weight or [], rank, energy, rule, set_ or [], random_seed)


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="folder, package:NAME/PATH or Hub id")],
    data: Annotated[Path, typer.Argument(help="training rows: CSV, JSONL or Parquet")],
    out: Annotated[Path | None, typer.Argument(help="folder to write", metavar="OUT")] = None,
    validation: Annotated[Path | None, typer.Option(help="rows that choose the checkpoint")] = None,
    kind: Annotated[str, typer.Option(help="kind of task (`tunemerge list tasks`)")] = "text-classification",
    text: Annotated[str | None, typer.Option(help="column of the text")] = None,
    label: Annotated[str | None, typer.Option(help="column of the label")] = None,
    epochs: Annotated[float, typer.Option(help="passes over the rows")] = 3.0,
    seed: Annotated[int, typer.Option(help="order, dropout and the head's start")] = 0,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="tune nothing: raise the learning rate over 100 steps, and suggest one")
    ] = False,
    plugin: Plugins = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="a setting of tuning or of the kind, e.g. -s learning_rate=1e-4",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Tune one model."""
    from tunemerge.cli.single import tune_one

    _load(plugin)
    columns = {name: column for name, column in (("text", text), ("label", label)) if column is not None}
    tune_one(model, data, out, validation, kind, columns, epochs, seed, set_ or [], find_rate)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="folder, package:NAME/PATH or Hub id")],
    data: Annotated[Path, typer.Argument(help="rows: CSV, JSONL or Parquet")],
    kind: Annotated[str, typer.Option(help="kind of task (`tunemerge list tasks`)")] = "text-classification",
    text: Annotated[str | None, typer.Option(help="column of the text")] = None,
    label: Annotated[str | None, typer.Option(help="column of the label")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="a column of the kind of task, e.g. -s value=stars"),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="column of what is resampled")] = None,
    out: Annotated[Path | None, typer.Option(help="file for the predictions (Parquet)")] = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Evaluate one model: all metrics, with intervals over the units."""
    from tunemerge.cli.single import evaluate_one

    _load(plugin)
    columns = {name: column for name, column in (("text", text), ("label", label)) if column is not None}
    evaluate_one(model, data, kind, columns, set_ or [], unit, out)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="folder, package:NAME/PATH or Hub id")],
    data: Annotated[Path, typer.Argument(help="rows: CSV, JSONL or Parquet; they need no label")],
    out: Annotated[Path, typer.Argument(help="file for the answers: .csv, .jsonl or .parquet")],
    kind: Annotated[str, typer.Option(help="kind of task (`tunemerge list tasks`)")] = "text-classification",
    text: Annotated[str | None, typer.Option(help="column of the text")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="a column of the kind of task, e.g. -s pair=answer"),
    ] = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """What a model answers for new rows, a line each."""
    from tunemerge.cli.single import predict_with

    _load(plugin)
    predict_with(model, data, out, kind, {} if text is None else {"text": text}, set_ or [])


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="strategies, methods, tasks or metrics", autocompletion=complete.kinds)],
    markdown: Annotated[bool, typer.Option("--markdown", help="methods with all parameters, as a page")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """What there is: strategies, methods, tasks, metrics."""
    from tunemerge.cli.listing import show_list, show_methods_page

    _load(plugin)
    show_methods_page(kind) if markdown else show_list(kind)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="method, strategy, metric or task", autocompletion=complete.new_kinds)],
    name: Annotated[str, typer.Argument(help="what it is called: small letters, digits and _")],
    json: Json = False,
) -> None:
    """Write NAME.py, a method, strategy, metric or kind of task of your own that works, and its test."""
    from tunemerge.cli.creating import create

    create(kind, name, Path())


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="every key with type, default and example")] = False,
    json: Json = False,
) -> None:
    """The JSON schema of study.yaml."""
    from tunemerge.study.config import StudyConfig
    from tunemerge.study.page import study_page

    if json or not markdown:
        print_json(StudyConfig.model_json_schema())
    else:
        typer.echo(study_page(), nl=False)
