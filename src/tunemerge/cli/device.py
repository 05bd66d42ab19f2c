"""The option --device."""

from __future__ import annotations

from tunemerge.errors import UsageError
from tunemerge.tasks.precision import device as find_device

DEVICES = ("auto", "cpu", "cuda")


def checked_device(wanted: str) -> str:
    """ "cpu" or "cuda". UsageError for anything else, and for a GPU that is not there."""
    if wanted not in DEVICES:
        raise UsageError(f"--device {wanted}: expected {', '.join(DEVICES)}")
    there = find_device()
    if wanted == "cuda" and there != "cuda":
        raise UsageError("--device cuda: torch is built without CUDA, or no GPU is there; use --device auto")
    return there if wanted == "auto" else wanted
