"""What one model says of new rows, whose answers nobody knows yet."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunemerge.checkpoint.heads import read_heads
from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.data.load import read_table
from tunemerge.errors import UsageError
from tunemerge.evaluate.predict import predict as predict_rows
from tunemerge.progress import Tell, shown
from tunemerge.registry import listed
from tunemerge.stats.metrics import log_softmax
from tunemerge.tasks import hub
from tunemerge.tasks.files import rows_of_table, settings_of
from tunemerge.tasks.task import TASKS, TaskKind


def predict(
    model: str | Path,
    data: str | Path,
    *,
    task: str = "text-classification",
    progress: Tell | None = None,
    **columns: Any,
) -> pd.DataFrame:
    """What `model` answers for the rows of `data`, which need no label and no value; one that is there is not read.

    A line a row, in the file's order: `row` (the first is 1); of labels `predicted` and a probability for each,
    `p(LABEL)` (several labels a text: those above one half, with ";" between); of a number `predicted`, in its unit.
    `columns` are those of the kind of task: `text="review"`; a model of tables knows its own.
    `progress(fraction, message)` is told how far it is; without it a terminal shows a bar. Raises UsageError where the
    model has no head for the task, or the kind answers neither by labels nor by a number; FindingsError for rows that
    can't be used.
    """
    kind = TASKS[task]
    if kind.prediction not in ("classes", "labels", "value"):
        able = listed(name for name, one in TASKS if one.prediction in ("classes", "labels", "value"))
        raise UsageError(f"{task}: its answers are neither labels nor a number; kinds that have such: {able}")
    (options,) = settings_of([kind.Options], columns)
    folder, table = locate(str(model)), read_table(Path(data))
    labels = _labels(kind, folder, options)
    own = kind.source(options).columns
    # Kinds read whole rows: what stands for the answer changes no prediction.
    stand_in = {own[name]: 0.0 if kind.prediction == "value" else _raw(options, labels) for name in kind.target}
    table = table.assign(**stand_in)
    (options,) = kind.complete([kind.complete_for(options, folder)], [table], [()])
    rows = rows_of_table(table, kind, options, str(data))
    spec = replace(kind.spec(options, [rows]), labels=labels)
    with tempfile.TemporaryDirectory() as scratch, shown("predicting", progress) as tell:
        hub.prepare({})
        path = Path(scratch) / "rows.parquet"
        rows.to_parquet(path, index=False)
        outputs = predict_rows([folder], path, task=spec, progress=tell).predictions.outputs
    return pd.DataFrame({"row": rows.index.to_numpy() + 1, **_answers(kind, labels, outputs)})


def _labels(kind: TaskKind, folder: Path, options: Any) -> tuple[str, ...]:
    """What the model's outputs are; of one without outputs of its own, what the options name."""
    heads = read_heads(folder)
    if heads is not None:
        text = f"{folder}: it answers {len(heads.heads)} questions ({listed(heads.labels, 6)})"
        raise UsageError(f"{text}: `tunemerge export RUN OUT --task NAME` writes the model of one")
    config = open_checkpoint(folder).config
    labels = kind.own_labels(config)
    if labels is None and not kind.head_names and not kind.refuses(config):
        labels = tuple(sorted({*getattr(options, "labels", {}).values()})) or None
        if labels is None:
            raise UsageError(f"{folder}: it answers by the names of labels: give them, labels='{{raw: name, ...}}'")
    if labels is None:
        raise UsageError(f"{folder}: config.json tells of no head for {kind.name}: `tunemerge tune` makes one")
    return labels


def _raw(options: Any, labels: Sequence[str]) -> str:
    """A label as the table would have it."""
    return next(iter(options.labels), labels[0])


def _answers(kind: TaskKind, labels: Sequence[str], outputs: np.ndarray) -> dict[str, Any]:
    if kind.prediction == "value":
        return {"predicted": outputs[:, 0]}
    if kind.prediction == "classes":
        likely = np.exp(log_softmax(outputs))
        predicted: list[str] = [labels[i] for i in likely.argmax(axis=1)]
    else:
        likely = 1 / (1 + np.exp(-outputs))
        predicted = [";".join(x for x, p in zip(labels, row, strict=True) if p > 0.5) for row in likely]
    return {"predicted": predicted, **{f"p({x})": likely[:, i] for i, x in enumerate(labels)}}
