"""One evaluation alone, on a person's own file: every metric that its rows allow, with intervals."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.data.load import Columns, labelled_rows
from tunemerge.errors import UsageError
from tunemerge.evaluate.predict import predict, write_predictions
from tunemerge.graph.cost import Cost
from tunemerge.progress import Tell, shown
from tunemerge.registry import listed
from tunemerge.stats.components import Estimate, estimate
from tunemerge.stats.metrics import METRICS, Metric
from tunemerge.stats.predictions import Predictions
from tunemerge.tasks.labels import own_labels


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
    text: str = "text",
    label: str = "label",
    unit: str | None = None,
    predictions: str | Path | None = None,
    task: str = "text-classification",
    progress: Tell | None = None,
) -> Evaluation:
    """Every metric of `model` on the rows of `data`; `predictions` names a Parquet file to write them to.

    `text`, `label` and `unit` (what is resampled: a document, a patient) name columns of `data`.
    `progress(fraction, message)` is told how far it is; without it a terminal shows a bar. Raises UsageError where
    the model has no classification head, lacks a label of the data, or all rows are of one unit.
    """
    rows, found = labelled_rows(data, Columns(text, label, unit))
    source = locate(str(model))
    labels = own_labels(open_checkpoint(source).config)
    if not labels:
        raise UsageError(f"{source}: config.json has no id2label: not a tuned classifier; `tunemerge tune` makes one")
    strange = [name for name in found if name not in labels]
    if strange:
        raise UsageError(f"{data}: labels {listed(map(repr, strange))} not among the model's: {listed(labels)}")
    if rows["unit"].nunique() < 2:
        raise UsageError(f"{data}: all rows belong to one unit; intervals need at least 2 units")
    with tempfile.TemporaryDirectory() as scratch, shown("evaluating", progress) as tell:
        path = Path(scratch) / "rows.parquet"
        rows.to_parquet(path, index=False)
        predicted = predict([source], path, labels=labels, task=task, progress=tell)
    if predictions is not None:
        write_predictions(predicted.predictions, Path(predictions))
    results = {name: _estimate(predicted.predictions, metric, found) for name, metric in METRICS}
    return Evaluation(
        rows=len(rows),
        metrics={name: e for name, e in results.items() if isinstance(e, Estimate)},
        undefined={name: e for name, e in results.items() if isinstance(e, str)},
        cost=predicted.cost,
    )


def _estimate(predictions: Predictions, metric: Metric, labels: list[str]) -> Estimate | str:
    """The metric with its interval, or why there is none."""
    if not metric.is_mean and len(labels) < 2:  # ranking and F1 say nothing about one class
        return f"all rows have the label {labels[0]!r}"
    try:
        return estimate({"data": [predictions]}, metric)
    except UsageError:
        return "undefined when one unit is left out: give more rows of every label"
