"""One tuning alone, on a person's own files: the function that a study's steps use."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.data.load import Columns, labelled_rows
from tunemerge.errors import UsageError
from tunemerge.progress import Tell, shown
from tunemerge.registry import listed, nearest
from tunemerge.store.atomic import refuse_foreign, replacing
from tunemerge.tasks.labels import is_classifier, own_labels
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import CURVE_FILE, Tuned, tune_model


def tune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    text: str = "text",
    label: str = "label",
    epochs: float = 3.0,
    seed: int = 0,
    task: str = "text-classification",
    progress: Tell | None = None,
    **settings: Any,
) -> Tuned:
    """Tune `model` (folder, package:NAME/PATH or Hub id) on the rows of `data` and write a Hugging Face folder.

    `text` and `label` name columns of `data` (CSV, TSV, JSONL or Parquet). `settings` are those of
    `tunemerge.tune.config.TuneConfig`: `learning_rate=1e-4, batch_size=16`. A model with a head for other labels is
    refused; one without gets a fresh head for the labels of `data`. `validation` rows choose the checkpoint; without
    them the last one is taken. `out` appears when all is done. `progress(fraction, message)` is told how far it is;
    without it a terminal shows a bar. Raises UsageError or FindingsError before anything is trained.
    """
    config = settings_from(settings)
    refuse_foreign(Path(out), CURVE_FILE)
    if not epochs > 0:
        raise UsageError(f"epochs is {epochs}; expected a positive number")
    rows, labels = labelled_rows(data, Columns(text, label))
    held_out, more = labelled_rows(validation, Columns(text, label)) if validation else (None, [])
    if len(labels) < 2:
        raise UsageError(f"{data}: all rows have the label {labels[0]!r}; a classifier needs two")
    _refuse_labels(validation, more, labels, str(data))
    source = locate(str(model))
    head = open_checkpoint(source).config
    if is_classifier(head):
        for file, found in ((data, labels), (validation, more)):
            _refuse_labels(file, found, own_labels(head), f"{model}, whose head it keeps")
    with (
        tempfile.TemporaryDirectory() as scratch,
        shown("tuning", progress) as tell,
        replacing(Path(out)) as folder,
    ):
        start = Path(scratch) / "start"
        start.mkdir()
        TASKS[task].initialise(source, start, labels, seed, config.dropout)
        return tune_model(
            start,
            folder,
            [_write(rows, Path(scratch) / "train.parquet")],
            [] if held_out is None else [_write(held_out, Path(scratch) / "validation.parquet")],
            labels=labels,
            seed=seed,
            examples=max(1, round(epochs * len(rows))),
            config=config,
            task=task,
            progress=tell,
        )


def settings_from(values: Mapping[str, Any]) -> TuneConfig:
    """Tuning settings by name. Raises UsageError with all unknown names and bad values."""
    known = list(TuneConfig.model_fields)
    wrong = [f"unknown setting {name!r}{nearest(name, known)}" for name in values if name not in known]
    try:
        config = TuneConfig.model_validate({name: value for name, value in values.items() if name in known})
    except ValidationError as problem:
        for e in problem.errors():
            place = f"{'.'.join(map(str, e['loc']))}: " if e["loc"] else ""
            wrong.append(place + e["msg"].removeprefix("Value error, "))
    if wrong:
        raise UsageError("\n".join(wrong))
    return config


def _refuse_labels(file: str | Path | None, found: list[str], known: list[str], whose: str) -> None:
    strange = [label for label in found if label not in known]
    if strange:
        labels = f"label{'s' * (len(strange) > 1)} {listed(map(repr, strange))}"
        raise UsageError(f"{file}: {labels} not among those of {whose}: {listed(known)}")


def _write(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path, index=False)
    return path
