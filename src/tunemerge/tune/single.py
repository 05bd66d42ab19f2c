"""One tuning alone, on a person's own files: the function that a study's steps use."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.data.seen import pass_on
from tunemerge.errors import UsageError
from tunemerge.findings import refuse_errors
from tunemerge.progress import Tell, shown
from tunemerge.registry import listed
from tunemerge.store.atomic import refuse_foreign, replacing
from tunemerge.store.digest import digest_file, digest_folder, digest_json
from tunemerge.tasks import hub
from tunemerge.tasks.files import completed_for, rows_of_file, settings_of
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, TaskKind
from tunemerge.tune.adapter import lora_findings
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.fitting import no_probe, unfit_model
from tunemerge.tune.model import Tuned, tune_model
from tunemerge.tune.record import CURVE_FILE, fingerprint_of, read_record, weights_digest, write_record
from tunemerge.tune.together import launched


def tune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    epochs: float = 3.0,
    seed: int = 0,
    task: str = "text-classification",
    progress: Tell | None = None,
    **settings: Any,
) -> Tuned:
    """Tune `model` (folder, package:NAME/PATH or Hub id) on the rows of `data` and write a Hugging Face folder.

    `settings` are those of the kind of task, which name columns of `data` (CSV, TSV, JSONL or Parquet), and those of
    `tunemerge.tune.config.TuneConfig`: `text="review", learning_rate=1e-4`. A model with a head for other labels is
    refused; one without gets a fresh head for the labels of `data`. `validation` rows choose the checkpoint; without
    them the last one is taken. `out` appears when all is done, with a record (`tunemerge_tune.json`) of rows, seed,
    costs and the digests of both models, by which a study elsewhere takes it as a model of its pool.
    A tuning that was killed goes on, when it is asked for again, from its last checkpoint (`.NAME.training` beside
    `out`). Launched by `torchrun` or `accelerate launch`, processes share every batch, and the first of them writes.
    `progress(fraction, message)` is told how far it is; without it a terminal shows a bar. Raises UsageError or
    FindingsError before anything is trained.
    """
    refuse_foreign(Path(out), CURVE_FILE)
    unfinished = Path(out).with_name(f".{Path(out).name}.training")
    if not epochs > 0:
        raise UsageError(f"epochs is {epochs}; expected a positive number")
    asked = read_asked(model, data, validation, task, settings)
    config, source, rows, held_out, spec = asked.config, asked.source, asked.rows, asked.held_out, asked.spec
    with (
        tempfile.TemporaryDirectory() as scratch,
        shown("tuning", progress if launched().first else _silent) as tell,
        replacing(Path(out)) if launched().first else nullcontext(Path(scratch) / "out") as folder,
    ):
        start, train = write_start(asked, Path(scratch), seed)
        began = time.perf_counter()
        held_out_file = [] if held_out is None else [_write(held_out, Path(scratch) / "validation.parquet")]
        parts = {f.name: digest_file(f) for f in (train, *held_out_file)}
        tuned = tune_model(
            start,
            folder,
            [train],
            held_out_file,
            task=spec,
            seed=seed,
            examples=max(1, round(epochs * len(rows))),
            config=config,
            progress=tell,
            unfinished=unfinished,
            identity=digest_json(
                [digest_folder(start)[0], parts, spec.as_dict(), seed, config.params(), environment()]
            ),
        )
        seconds = tuned.cost.seconds + time.perf_counter() - began
        tuned = replace(tuned, cost=replace(tuned.cost, seconds=seconds))
        before = read_record(source)
        write_record(
            folder,
            rows=len(rows),
            seed=seed,
            base=before.base if before else fingerprint_of(source),
            model=weights_digest(folder),
            cost=(tuned.cost + before.cost if before else tuned.cost).as_dict(),
        )
    shutil.rmtree(unfinished, ignore_errors=True)
    return tuned


def _silent(fraction: float, message: str) -> None:
    """Of several processes one says how far they are."""


@dataclass(frozen=True)
class Asked:
    """A tuning that a person asked for, read and found possible: `source` is the model's folder."""

    kind: TaskKind
    spec: Spec
    config: TuneConfig
    source: Path
    rows: pd.DataFrame
    held_out: pd.DataFrame | None


def read_asked(
    model: str | Path, data: str | Path, validation: str | Path | None, task: str, settings: Mapping[str, Any]
) -> Asked:
    """Raises UsageError or FindingsError with what makes the tuning impossible."""
    kind = TASKS[task]
    options, config = settings_of([kind.Options, TuneConfig], settings)
    options, source = completed_for(kind, options, data, model)
    rows = rows_of_file(data, kind, options)
    held_out = rows_of_file(validation, kind, options) if validation else None
    spec = kind.spec(options, [rows])
    unfit = unfit_model(kind, open_checkpoint(source).config, str(model)) + no_probe(kind, config)
    refuse_errors(unfit or lora_findings(config, source))
    if kind.prediction == "classes":
        _check_labels(kind, options, source, spec.labels, str(data), str(validation), held_out, str(model))
    return Asked(kind, spec, config, source, rows, held_out)


def write_start(asked: Asked, folder: Path, seed: int) -> tuple[Path, Path]:
    """The model that the tuning starts from, and its training rows, both in `folder`."""
    start, kind, spec = folder / "start", asked.kind, asked.spec
    start.mkdir()
    hub.prepare({})
    train = _write(asked.rows, folder / "train.parquet")
    fitted = kind.fit([kind.summarise(kind.read([train], spec), spec)], spec) if kind.fits else None
    kind.initialise(asked.source, start, spec, seed, asked.config.dropout, fitted)
    pass_on([asked.source], start)
    return start, train


def _check_labels(
    kind: TaskKind,
    options: Any,
    source: Path,
    labels: Sequence[str],
    data: str,
    validation: str,
    held_out: pd.DataFrame | None,
    model: str,
) -> None:
    """Two labels at least, none in validation that training lacks, none that the model's own head lacks."""
    if len(labels) < 2:
        raise UsageError(f"{data}: all rows have the label {labels[0]!r}; a classifier needs two")
    more = kind.spec(options, [held_out]).labels if held_out is not None else ()
    _refuse_labels(validation, more, labels, data)
    own = kind.own_labels(open_checkpoint(source).config)
    if own is not None:
        for file, found in ((data, labels), (validation, more)):
            _refuse_labels(file, found, own, f"{model}, whose head it keeps")


def _refuse_labels(file: str, found: Sequence[str], known: Sequence[str], whose: str) -> None:
    strange = [label for label in found if label not in known]
    if strange:
        labels = f"label{'s' * (len(strange) > 1)} {listed(map(repr, strange))}"
        raise UsageError(f"{file}: {labels} not among those of {whose}: {listed(known)}")


def _write(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path, index=False)
    return path
