"""`tunemerge tune`, `evaluate` and `predict`, as a person sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel
from rich.table import Table

from tunemerge.cli.bar import bar
from tunemerge.cli.find_rate import find_rate
from tunemerge.cli.output import answer, screen
from tunemerge.errors import UsageError
from tunemerge.evaluate.answers import predict
from tunemerge.evaluate.single import evaluate
from tunemerge.report import format as fmt
from tunemerge.stats.components import Estimate
from tunemerge.stats.metrics import METRICS
from tunemerge.store.atomic import write_file
from tunemerge.tasks.files import settings_of
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.single import tune
from tunemerge.yamlfile import parse_yaml


def tune_one(
    model: str,
    data: Path,
    out: Path | None,
    validation: Path | None,
    kind: str,
    columns: dict[str, str],
    epochs: float,
    seed: int,
    settings: list[str],
    only_find_rate: bool,
) -> None:
    if only_find_rate == (out is not None):
        raise UsageError("--find-rate writes nothing: leave OUT out" if out else "OUT is missing: the folder to write")
    given = {**columns, **_settings(settings, [TASKS[kind].Options, TuneConfig])}
    if out is None:
        find_rate(model, data, kind, seed, given)
        return
    console = screen()
    with bar(console, "tuning") as tell:
        tuned = tune(
            model,
            data,
            out,
            validation=validation,
            task=kind,
            epochs=epochs,
            seed=seed,
            progress=tell,
            **given,
        )
    table = Table(box=None, pad_edge=False)
    for name in ("step", "examples", "training loss", "validation loss", f"validation {TASKS[kind].metric}"):
        table.add_column(name, justify="right")
    for p in tuned.curve:
        values = (p.train_loss, p.validation_loss, p.validation_score)
        table.add_row(str(p.step), f"{p.examples:,}", *("" if v is None else f"{v:.4f}" for v in values))
    console.print(table)
    console.print(f"kept step {tuned.chosen_step}; {tuned.cost.examples:,} examples, {tuned.cost.tokens:,} tokens")
    console.print(str(out), highlight=False, soft_wrap=True)
    answer(out=out, step=tuned.chosen_step, cost=asdict(tuned.cost), curve=[asdict(p) for p in tuned.curve])


def evaluate_one(
    model: str, data: Path, kind: str, columns: dict[str, str], settings: list[str], unit: str | None, out: Path | None
) -> None:
    console = screen()
    columns = {**columns, **_settings(settings, [TASKS[kind].Options])}
    with bar(console, "evaluating") as tell:
        result = evaluate(model, data, unit=unit, predictions=out, task=kind, progress=tell, **columns)
    table = Table(
        box=None, pad_edge=False, caption=f"{result.rows:,} rows; 95% intervals over units", caption_justify="left"
    )
    for name, justify in (("metric", "left"), ("value", "right"), ("95% interval", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name, e in result.metrics.items():
        own = _in_own_unit(name, e)
        table.add_row(name, f"{own['value']:.4f}", f"\\[{own['low']:.4f}, {own['high']:.4f}]")
    console.print(table)
    for name, reason in result.undefined.items():
        console.print(f"no {name}: {reason}", style="yellow", markup=False, highlight=False)
    answer(
        rows=result.rows,
        metrics={name: _in_own_unit(name, e) for name, e in result.metrics.items()},
        undefined=dict(result.undefined),
    )


def predict_with(model: str, data: Path, out: Path, kind: str, columns: dict[str, str], settings: list[str]) -> None:
    write = _WRITERS.get(out.suffix)
    if write is None:
        raise UsageError(f"{out}: can't tell the format to write; expected one of {', '.join(_WRITERS)}")
    console = screen()
    columns = {**columns, **_settings(settings, [TASKS[kind].Options])}
    with bar(console, "predicting") as tell:
        answers = predict(model, data, task=kind, progress=tell, **columns)
    write_file(out, write(answers))
    predicted = answers["predicted"]
    if pd.api.types.is_numeric_dtype(predicted):
        said = {key: float(predicted.describe()[key]) for key in ("min", "mean", "max")}
        shown = ", ".join(f"{key} {value:.4g}" for key, value in said.items())
    else:
        said = {str(label): int(count) for label, count in predicted.value_counts().items()}
        shown = ", ".join(f"{label or 'none'} {count:,}" for label, count in said.items())
    console.print(f"{fmt.plural(len(answers), 'row')}: {shown}", markup=False, highlight=False)
    console.print(str(out), highlight=False, soft_wrap=True)
    answer(out=out, rows=len(answers), predicted=said)


_WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    ".csv": lambda table: table.to_csv(index=False).encode(),
    ".jsonl": lambda table: table.to_json(orient="records", lines=True, force_ascii=False).encode(),
    ".parquet": lambda table: table.to_parquet(index=False),
}


def _in_own_unit(name: str, e: Estimate) -> dict[str, float]:
    """Estimates are oriented so that higher is better; people expect a loss to be positive."""
    sign = METRICS[name].sign
    low, high = sorted((sign * e.low, sign * e.high))
    return {"value": sign * e.value, "low": low, "high": high}


def _settings(settings: list[str], schemas: list[type[BaseModel]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in settings:
        key, equals, raw = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected KEY=VALUE")
        values[key], _ = parse_yaml(raw, f"--set {key}")
    settings_of(schemas, values)
    return values
