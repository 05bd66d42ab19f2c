"""The folder of a finished run: its results, and the store that it used."""

from __future__ import annotations

from pathlib import Path

from tunemerge.errors import TunemergeError, UsageError
from tunemerge.results import Results
from tunemerge.store import STORE
from tunemerge.store.artifacts import Store
from tunemerge.study.uses import RESULTS_FILE

STUDY_FILE = "study.yaml"


def read_results(run: Path) -> Results:
    """The results of a run folder (or the results.json itself). Raises TunemergeError."""
    file = run / RESULTS_FILE if run.is_dir() else run
    if not file.exists():
        raise UsageError(f"{file}: no such file: has the study finished? `tunemerge run STUDY.YAML` finishes it")
    try:
        return Results.model_validate_json(file.read_bytes()).at(file.resolve().parent)
    except ValueError as e:
        raise TunemergeError(f"{file}: not a results.json of this version: {e}") from None


def store_of(run: Path) -> Store:
    """The store that a run folder's study used: beside `runs/`."""
    return Store((run if run.is_dir() else run.parent).resolve().parent.parent / STORE)
