"""What a tuned model says of itself, in its folder: how it was made, what that cost, and which files it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.fingerprint import fingerprint
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import open_model
from tunemerge.errors import UsageError
from tunemerge.graph.cost import Cost
from tunemerge.store.digest import digest_file, digest_json

CURVE_FILE = "tunemerge_tune.json"


@dataclass(frozen=True)
class TuneRecord:
    """`rows` is the number of training rows, `seed` that of the tuning. `base` is the fingerprint of the model that it
    started from, `model` the digest of the weights in the folder (`weights_digest`). Where a tuned model was tuned on,
    `base` is what the first of them started from, and `cost` what all of them cost."""

    rows: int
    seed: int
    base: str
    model: str
    cost: Cost


def write_record(folder: Path, **entries: Any) -> None:
    """Put entries into the record of a tuned model, beside those that are there."""
    file = folder / CURVE_FILE
    there = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**there, **entries}, indent=1, allow_nan=False) + "\n", "utf-8")


def read_record(folder: Path) -> TuneRecord | None:
    """The record of a model that `tunemerge tune` wrote; None where there is none, or it tells of no cost.

    Raises UsageError for a record that can't be read.
    """
    file = folder / CURVE_FILE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
        if "cost" not in found:
            return None
        return TuneRecord(
            int(found["rows"]), int(found["seed"]), str(found["base"]), str(found["model"]), _cost(found["cost"])
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise UsageError(f"{file}: not the record of a tuned model: {problem!r}") from problem


def weights_digest(folder: Path, digest: Callable[[Path], str] = digest_file) -> str:
    """SHA-256 (hex) over the names and contents of a model's safetensors files."""
    return digest_json({file.name: digest(file) for file in sorted(folder.glob("*.safetensors"))})


def fingerprint_of(folder: Path) -> str:
    """The fingerprint of the model in a folder."""
    with open_model(open_checkpoint(folder)) as model:
        return fingerprint(model)


def _cost(values: Mapping[str, Any]) -> Cost:
    cost = Cost.of(values)
    if any(isinstance(v, bool) or not isinstance(v, int | float) or v < 0 for v in cost.as_dict().values()):
        raise ValueError("costs are numbers from 0")
    return cost
