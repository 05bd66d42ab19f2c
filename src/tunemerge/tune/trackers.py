"""Trackers by name: what the Trainer reports to, besides the study's own ledger.

Which trackers, and where they write, is told to the processes that tune by their environment, not by a step's
parameters: a tracker changes no number, so it must change no key.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunemerge.findings import Finding, error
from tunemerge.graph.executors.execute import STEP_LABEL

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}
_ASKED = "TUNEMERGE_TRACKERS"


def missing_packages(trackers: Sequence[str]) -> list[Finding]:
    """An error for every tracker whose package is not installed."""
    missing = [name for name in trackers if find_spec(PACKAGES[name]) is None]
    text = "the package {0!r} is not installed"
    return [
        error("tracker-missing", text.format(PACKAGES[n]), "trackers", f"pip install {PACKAGES[n]}, or leave it out")
        for n in missing
    ]


@contextmanager
def tracking(trackers: Sequence[str], study: str, folder: Path) -> Iterator[None]:
    """Inside the block, tunings in this process and in those that it starts report to these trackers.

    What writes to disk writes into `folder`, a run's own. Variables that the person has set stay (MLFLOW_TRACKING_URI).
    """
    if not trackers:
        yield
        return
    given = {
        _ASKED: json.dumps({"names": list(trackers), "study": study, "folder": str(folder.absolute())}),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder.absolute()}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": study,
        "WANDB_PROJECT": study,
        "WANDB_DIR": str(folder.absolute()),
        "TRACKIO_DIR": str(folder.absolute() / "trackio"),
    }
    new = {name: value for name, value in given.items() if name == _ASKED or name not in os.environ}
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def reporting() -> dict[str, Any]:
    """What TrainingArguments must be told: nothing is reported unless `tracking` asks for it."""
    if _ASKED not in os.environ:
        return {"report_to": "none", "logging_strategy": "no"}
    asked, label = json.loads(os.environ[_ASKED]), os.environ.get(STEP_LABEL) or "tune"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(
        Path(asked["folder"]) / "tensorboard" / re.sub(r"[^\w.=-]+", "_", label)
    )
    return {
        "report_to": asked["names"],
        "run_name": label,
        "project": asked["study"],
        "logging_strategy": "steps",
        "logging_steps": 1,
    }
