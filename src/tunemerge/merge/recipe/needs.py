"""What a merge takes of the machine: disk, memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunemerge.findings import Finding, error, warning
from tunemerge.machine import free_memory, threads
from tunemerge.merge.plan import MergePlan
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.runner import buffer_bytes, output_bytes
from tunemerge.merge.target import free_bytes


def needs(plan: MergePlan, out: Path, options: Options) -> list[Finding]:
    """An error where the disk is too small, a warning where the memory is."""
    return [*disk_findings([(out, output_bytes(plan))]), *memory_findings(plan, options)]


def disk_findings(wanted: Sequence[tuple[Path, int]]) -> list[Finding]:
    """An error for each disk where fewer bytes are free than are to be written to places (path, bytes) on it."""
    folders: dict[int, tuple[Path, int]] = {}
    sizes: dict[int, int] = {}
    for path, size in wanted:
        folder, free = free_bytes(path)
        disk = _disk(folder)
        folders.setdefault(disk, (folder, free))
        sizes[disk] = sizes.get(disk, 0) + size
    return [
        error(
            "disk-full",
            f"the merge needs {sizes[disk] / 1e9:.2f} GB of disk and {free / 1e9:.2f} GB are free",
            str(folder),
        )
        for disk, (folder, free) in folders.items()
        if free < sizes[disk]
    ]


def memory_findings(plan: MergePlan, options: Options) -> list[Finding]:
    """A warning where the engine takes more than is available."""
    memory, available = memory_bytes(plan, options), free_memory()
    if available is None or memory <= available:
        return []
    text = f"the merge needs {memory / 1e9:.2f} GB of memory and {available / 1e9:.2f} GB are available"
    return [warning("memory-low", text, remedy="fewer --threads need less")]


def memory_bytes(plan: MergePlan, options: Options) -> int:
    """What the engine takes for its blocks, at most."""
    return buffer_bytes(plan, options.threads or threads())


def _disk(folder: Path) -> int:
    """The number of the file system that holds a folder."""
    return folder.stat().st_dev
