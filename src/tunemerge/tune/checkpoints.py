"""Checkpoints of a training that is under way: complete, or not there.

    <folder>/step-00000120/   state.safetensors, state.json, COMPLETE

COMPLETE is a sealed manifest with the digests of the other two; the folder is written under another name and renamed.
One that was cut short by a kill or a power cut is not read, and the one before it is still there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.store.atomic import make_folder, replace_folder, write_file
from tunemerge.store.digest import digest_folder, seal, unseal

COMPLETE = "COMPLETE"
_TENSORS, _VALUES = "state.safetensors", "state.json"
_NAME = "step-{:08d}"


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimizer steps: tensors by name, and what JSON holds."""

    step: int
    tensors: Mapping[str, Any]
    values: Mapping[str, Any]


@dataclass
class Cadence:
    """When to write the next checkpoint: by time, so that short steps pay nothing and long ones at most a fiftieth."""

    seconds: float = 60.0
    share: float = 1 / 50

    def __post_init__(self) -> None:
        self._wait, self._since = self.seconds, time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._since >= self._wait

    def written(self, took: float) -> None:
        """A checkpoint was written just now, in `took` seconds."""
        self._wait, self._since = max(self.seconds, took / self.share), time.monotonic()


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into `folder`, durably, and then remove all others there. Raises OSError."""
    from safetensors.torch import save_file

    make_folder(folder)
    target = folder / _NAME.format(checkpoint.step)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file({name: t.contiguous() for name, t in checkpoint.tensors.items()}, temporary / _TENSORS)
    (temporary / _VALUES).write_text(json.dumps({"step": checkpoint.step, **checkpoint.values}))
    _, files = digest_folder(temporary)
    write_file(temporary / COMPLETE, seal(files))
    replace_folder(temporary, target)
    for other in folder.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint in `folder`, its tensors on the CPU; None where there is none."""
    from safetensors.torch import load_file

    for found in sorted(folder.glob("step-*"), reverse=True):
        with contextlib.suppress(OSError, ValueError, KeyError):
            files = unseal((found / COMPLETE).read_bytes())
            _, there = digest_folder(found, links=False)
            there.pop(COMPLETE)
            if there == files:
                values = json.loads((found / _VALUES).read_text())
                return Checkpoint(values.pop("step"), load_file(found / _TENSORS), values)
    return None


def named(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The same tensors, their names under `prefix.`"""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose names begin with `prefix.`, without it."""
    return {name.partition(".")[2]: t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
