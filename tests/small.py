"""Small real studies for the tests: tiny BERTs, sentences whose label follows from a word, the whole pipeline."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any
from unittest.mock import patch

from corpus import sentences
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.results import Results
from tunemerge.study.study import Study

TUNING = {"batch_size": 8, "learning_rate": 3e-3, "evaluations": 2, "max_length": 32, "precision": "float32"}
SPLITS = {"test": 60, "validation": 24, "adapt": 32, "source": 48}


def write_table(path: Path, n: int, seed: int, *, wrong: bool = False) -> str:
    """A CSV of n sentences; `wrong`: every label is the other one."""
    texts, labels = sentences(n, seed)
    if wrong:
        labels = ["negative" if label == "positive" else "positive" for label in labels]
    with path.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, labels, strict=True))
    return path.name


def write_study(folder: Path, base: Path, **changes: Any) -> dict[str, Any]:
    """The tables of two tasks, and a study of them: two seeds, all strategies; `changes` replace keys of the study."""
    for number, name in enumerate("ab"):
        write_table(folder / f"{name}.csv", 200, number)
    return {
        "name": "small",
        "base": str(base),
        "tasks": {n: {"data": f"{n}.csv", "splits": SPLITS} for n in "ab"},
        "methods": ["linear", "ties"],
        "candidates": 2,
        "budget": {"examples": 64},
        "pool_budget": {"epochs": 1},
        "seeds": 2,
        "tuning": TUNING,
        **changes,
    }


def small_study(folder: Path, base: Path, **changes: Any) -> Study:
    """The study in memory; runs and store lie in `folder`/work."""
    return Study.from_dict(write_study(folder, base, **changes), folder, folder / "work")


def run(study: Study) -> Results:
    """Run it in this process. Nothing is forced to the disk, which only a power cut would ask for."""
    with patch("os.fsync", lambda file: None):
        return study.run(executor=InlineExecutor())
