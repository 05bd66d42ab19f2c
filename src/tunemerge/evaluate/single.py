"""One evaluation alone, on a person's own file: every metric that its rows allow, with intervals."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import UsageError
from tunemerge.evaluate.predict import predict, write_predictions
from tunemerge.graph.cost import Cost
from tunemerge.progress import Tell, shown
from tunemerge.registry import listed
from tunemerge.stats.components import Estimate, estimate
from tunemerge.stats.metrics import Metric, metrics_of
from tunemerge.stats.predictions import Predictions
from tunemerge.tasks import hub
from tunemerge.tasks.files import completed_for, rows_of_file, settings_of
from tunemerge.tasks.task import TASKS


@dataclass(frozen=True)
class Evaluation:
    """Every metric of one model on one table, with 95% intervals over the units (one model: no seeds to vary).

    `undefined` says of the other metrics why these rows don't give them.
    """

    rows: int
    metrics: Mapping[str, Estimate]
    undefined: Mapping[str, str]
    cost: Cost


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    unit: str | None = None,
    predictions: str | Path | None = None,
    task: str = "text-classification",
    progress: Tell | None = None,
    **columns: Any,
) -> Evaluation:
    """Every metric of `model` on the rows of `data`; `predictions` names a Parquet file to write them to.

    `unit` (what is resampled: a document, a patient) names a column of `data`, `columns` those of the kind of task:
    `text="review", label="stars"`. `progress(fraction, message)` is told how far it is; without it a terminal shows a
    bar. Raises UsageError where the model has no head for the task, lacks a label of the data, or all rows are of one
    unit.
    """
    kind = TASKS[task]
    (options,) = settings_of([kind.Options], columns)
    options, source = completed_for(kind, options, data, model, unit)
    rows = rows_of_file(data, kind, options, unit)
    spec = kind.spec(options, [rows])
    config = open_checkpoint(source).config
    labels = kind.own_labels(config)
    if labels is None and not kind.head_names and not kind.refuses(config, spec):
        labels = spec.labels  # such a model answers any
    if labels is None:
        raise UsageError(f"{source}: config.json tells of no head for {task}: `tunemerge tune` makes one")
    strange = [name for name in spec.labels if name not in labels]
    if strange and kind.prediction == "classes":
        raise UsageError(f"{data}: labels {listed(map(repr, strange))} not among the model's: {listed(labels)}")
    if rows["unit"].nunique() < 2:
        raise UsageError(f"{data}: all rows belong to one unit; intervals need at least 2 units")
    with tempfile.TemporaryDirectory() as scratch, shown("evaluating", progress) as tell:
        hub.prepare({})
        path = Path(scratch) / "rows.parquet"
        rows.to_parquet(path, index=False)
        predicted = predict([source], path, task=replace(spec, labels=labels), progress=tell)
    if predictions is not None:
        write_predictions(predicted.predictions, Path(predictions))
    metrics = metrics_of(kind.prediction)
    results = {name: _estimate(predicted.predictions, metric, spec.labels) for name, metric in metrics.items()}
    return Evaluation(
        rows=len(rows),
        metrics={name: e for name, e in results.items() if isinstance(e, Estimate)},
        undefined={name: e for name, e in results.items() if isinstance(e, str)},
        cost=predicted.cost,
    )


def _estimate(predictions: Predictions, metric: Metric, labels: Sequence[str]) -> Estimate | str:
    """The metric with its interval, or why there is none."""
    if (
        metric.prediction == "classes" and not metric.is_mean and len(labels) < 2
    ):  # ranking and F1 say nothing about one class
        return f"all rows have the label {labels[0]!r}"
    try:
        return estimate({"data": [predictions]}, metric)
    except UsageError:
        return "undefined when one unit is left out: give more rows of every label"
