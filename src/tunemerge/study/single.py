"""One tuning and one evaluation alone, on the person's own files: the same functions that a study's steps use."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.data.load import Columns, read_table, rows_of
from tunemerge.errors import UsageError
from tunemerge.evaluate.predict import predict, write_predictions
from tunemerge.findings import refuse_errors
from tunemerge.graph.cost import Cost
from tunemerge.stats.components import Estimate, estimate
from tunemerge.stats.metrics import METRICS
from tunemerge.store.atomic import refuse_foreign, replacing
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import CURVE_FILE, Tuned, tune_model

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Evaluation:
    """Every metric of one model on one table, with 95% intervals over the units (one model: no seeds to vary)."""

    rows: int
    metrics: dict[str, Estimate]
    cost: Cost


def tune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    columns: Columns | None = None,
    epochs: float = 3.0,
    seed: int = 0,
    config: TuneConfig | None = None,
    task: str = "text-classification",
    progress: Progress = lambda fraction, message: None,
) -> Tuned:
    """Tune `model` (folder, package:NAME/PATH or Hub id) on the rows of `data` and write a Hugging Face folder.

    A model with a head for other labels is refused; one without gets a fresh head for the labels of `data`.
    `validation` rows choose the checkpoint; without them the last one is taken. `out` appears when all is done.
    Raises UsageError or FindingsError before anything is trained.
    """
    config = config or TuneConfig()
    refuse_foreign(Path(out), CURVE_FILE)
    if not epochs > 0:
        raise UsageError(f"epochs is {epochs}; expected a positive number")
    rows, labels = _rows(data, columns)
    held_out = _rows(validation, columns)[0] if validation else None
    strange = sorted(set(held_out["label"]) - set(labels)) if held_out is not None else []
    if strange:
        raise UsageError(f"{validation}: labels {strange} are not in {data}, which has {labels}")
    if len(labels) < 2:
        raise UsageError(f"{data}: all rows have the label {labels[0]!r}; a classifier needs two")
    source = locate(str(model))
    with tempfile.TemporaryDirectory() as scratch, replacing(Path(out)) as folder:
        start = Path(scratch) / "start"
        start.mkdir()
        TASKS[task].initialise(source, start, labels, seed, config.dropout)
        splits = {"train": rows, "validation": held_out}
        paths = {name: _write(table, Path(scratch) / f"{name}.parquet") for name, table in splits.items()}
        return tune_model(
            start,
            folder,
            [p for p in [paths["train"]] if p],
            [p for p in [paths["validation"]] if p],
            labels=labels,
            seed=seed,
            examples=max(1, round(epochs * len(rows))),
            config=config,
            task=task,
            progress=progress,
        )


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    columns: Columns | None = None,
    predictions: str | Path | None = None,
    task: str = "text-classification",
    progress: Progress = lambda fraction, message: None,
) -> Evaluation:
    """Every metric of `model` on the rows of `data`; `predictions` names a Parquet file to write them to.

    Raises UsageError where the model has no classification head or lacks a label of the data.
    """
    source = locate(str(model))
    names = open_checkpoint(source).config.get("id2label") or {}
    labels = [names[k] for k in sorted(names, key=int)]
    if not labels:
        raise UsageError(f"{source}: config.json has no id2label: not a tuned classifier; `tunemerge tune` makes one")
    rows, found = _rows(data, columns)
    strange = sorted(set(found) - set(labels))
    if strange:
        raise UsageError(f"{data}: labels {strange} are not among the model's: {labels}")
    with tempfile.TemporaryDirectory() as scratch:
        path = _write(rows, Path(scratch) / "rows.parquet")
        assert path is not None
        predicted = predict([source], path, labels=labels, task=task, progress=progress)
    if predictions is not None:
        write_predictions(predicted.predictions, Path(predictions))
    usable = {
        name: metric
        for name, metric in METRICS
        if metric.is_mean or len(set(found)) > 1  # ranking and F1 say nothing about one class
    }
    return Evaluation(
        len(rows), {n: estimate({"data": [predicted.predictions]}, m) for n, m in usable.items()}, predicted.cost
    )


def _rows(data: str | Path, columns: Columns | None) -> tuple[pd.DataFrame, list[str]]:
    rows, findings = rows_of(read_table(Path(data)), columns or Columns("text", "label"), str(data))
    refuse_errors(findings)
    return rows, sorted(set(rows["label"]))


def _write(table: pd.DataFrame | None, path: Path) -> Path | None:
    if table is None:
        return None
    table.to_parquet(path, index=False)
    return path
