"""What a merge's numbers depend on besides inputs and parameters: versions of methods, and what computes them."""

from __future__ import annotations

from collections.abc import Collection
from importlib import metadata

from tunemerge.merge.method import METHODS
from tunemerge.tasks.precision import environment


def versions_of(methods: Collection[str], device: str = "auto") -> dict[str, str | int]:
    """The version of each method by name, and the digest of its code where it is a plug-in's; where torch computes one
    of them, also torch's version, and the kind of device.

    For keys of steps and for the record of a merge. Imports no torch.
    """
    out: dict[str, str | int] = {f"method {name}": METHODS[name].version for name in sorted(methods)}
    for name in sorted(methods):
        out |= METHODS.code(name)
    if any(METHODS[name].torch for name in methods):
        out |= {"torch": metadata.version("torch"), "device": "cpu" if device == "cpu" else environment()["device"]}
    return out
