"""Predictions of one model, or of several as an ensemble: every row's outputs are stored, metrics follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tunemerge.checkpoint.heads import read_heads
from tunemerge.errors import UsageError
from tunemerge.graph.cost import Cost
from tunemerge.stats.predictions import Predictions
from tunemerge.tasks import flops, hub
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.meter import metered
from tunemerge.tasks.precision import torch_device
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS

FILE = "predictions.parquet"
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Predicted:
    """Predictions in row order, and what the forward passes cost."""

    predictions: Predictions
    cost: Cost


def predict(
    models: Sequence[Path],
    rows: Path | Sequence[Path],
    *,
    task: Spec,
    max_length: int = 256,
    precision: str = "auto",
    generate: bool = True,
    progress: Progress = lambda fraction, message: None,
) -> Predicted:
    """Outputs of every row. With several models: the kind's ensemble (classes: the log of their mean probabilities);
    one model is in memory at a time. Of models with several heads those answer that have learned this one's labels.
    `generate`: answers are written, where the kind has such.

    Rows come back in the order of the files; the same inputs give the same bits on one CPU thread.
    """
    if not models:
        raise UsageError("no model to predict with")
    models = _taught(models, task)
    kind = TASKS[task.kind]
    read = kind.read([rows] if isinstance(rows, Path) else rows, task)
    outputs, cost = list[np.ndarray](), Cost()
    for number, folder in enumerate(models):

        def tell(fraction: float, number: int = number) -> None:
            progress((number + fraction) / len(models), f"model {number + 1} of {len(models)}")

        values, spent = _one(folder, read, max_length, precision, task, generate, tell)
        outputs, cost = [*outputs, values], cost + spent
    together = outputs[0] if len(outputs) == 1 else kind.ensemble(outputs)
    return Predicted(Predictions(np.array(read.unit, object), read.target, together, read.weight), cost)


def _taught(models: Sequence[Path], task: Spec) -> Sequence[Path]:
    """Those whose head for the task is not as it was drawn; all where that is none."""
    heads = [(folder, read_heads(folder)) for folder in models]
    return [f for f, known in heads if known is None or known.has_learned(task.labels)] or models


def _one(
    folder: Path,
    rows: Rows,
    max_length: int,
    precision: str,
    task: Spec,
    generate: bool,
    progress: Callable[[float], None],
) -> tuple[np.ndarray, Cost]:
    kind = TASKS[task.kind]
    with hub.quiet():
        model = kind.load(folder, task)
        model.net.to(torch_device())
        encoded = kind.encode(model, rows, max_length)
        with metered(model.net) as meter:
            values = predictions(model, encoded, precision, progress)
            seen = meter.forward_examples
            if generate and kind.generates:
                values = kind.answer(model, rows, values, max_length)
        # Of generation the cost counts without attention to what was written before: a token is a pass of length 1.
        spent = flops.flops(meter.forward_shapes, flops.measure(model, encoded, "", training=False))
    return values, Cost(forward_examples=seen, forward_flops=spent)


def write_predictions(predictions: Predictions, file: Path) -> None:
    """Parquet with the columns unit, target, outputs (float64), weight (float64).

    Classes: target (int32), logit_0, ...; values: target (float64), output_0, ...; where a row has several: target_0,
    ...
    """
    classes = np.issubdtype(predictions.target.dtype, np.integer)
    name = "logit" if classes else "output"
    outputs = {f"{name}_{i}": column for i, column in enumerate(predictions.outputs.T)}
    columns = {
        "unit": pa.array(predictions.unit.tolist(), pa.string()),
        **{n: pa.array(v.astype(np.int32 if classes else np.float64)) for n, v in target_columns(predictions).items()},
        **{name: pa.array(np.ascontiguousarray(column)) for name, column in outputs.items()},
        "weight": pa.array(predictions.weight),
    }
    pq.write_table(pa.table(columns), file)


def target_columns(predictions: Predictions) -> dict[str, np.ndarray]:
    """The target as columns: one, or of several numbers a row one each."""
    if predictions.target.ndim == 1:
        return {"target": predictions.target}
    return {f"target_{i}": np.ascontiguousarray(column) for i, column in enumerate(predictions.target.T)}


def read_predictions(file: Path | BinaryIO) -> Predictions:
    """What `write_predictions` wrote."""
    table = pq.read_table(file)
    names = [name for name in table.column_names if name.startswith(("logit_", "output_"))]
    parts = [name for name in table.column_names if name.startswith("target_")]
    several = np.stack([table[name].to_numpy() for name in parts], axis=1) if parts else None
    return Predictions(
        np.array(table["unit"].to_pylist(), object),
        table["target"].to_numpy() if several is None else several,
        np.stack([table[name].to_numpy() for name in names], axis=1),
        table["weight"].to_numpy(),
    )
