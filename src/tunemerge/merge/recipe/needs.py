"""What a merge takes of the machine: disk, memory."""

from __future__ import annotations

from pathlib import Path

from tunemerge.findings import Finding, error, warning
from tunemerge.merge.plan import MergePlan
from tunemerge.merge.recipe.write import Options
from tunemerge.merge.runner import buffer_bytes, default_threads, output_bytes
from tunemerge.merge.target import free_bytes


def needs(plan: MergePlan, out: Path, options: Options) -> list[Finding]:
    """An error where the disk is too small, a warning where the memory is."""
    return [*disk_findings(out, output_bytes(plan)), *memory_findings(plan, options)]


def disk_findings(out: Path, size: int) -> list[Finding]:
    """An error where fewer than `size` bytes are free for `out`."""
    parent, free = free_bytes(out)
    if free >= size:
        return []
    text = f"the merge needs {size / 1e9:.2f} GB of disk and {free / 1e9:.2f} GB are free"
    return [error("disk-full", text, str(parent))]


def memory_findings(plan: MergePlan, options: Options) -> list[Finding]:
    """A warning where the engine takes more than is available."""
    memory, available = memory_bytes(plan, options), available_memory()
    if available is None or memory <= available:
        return []
    text = f"the merge needs {memory / 1e9:.2f} GB of memory and {available / 1e9:.2f} GB are available"
    return [warning("memory-low", text, remedy="fewer --threads need less")]


def memory_bytes(plan: MergePlan, options: Options) -> int:
    """What the engine takes for its blocks, at most."""
    return buffer_bytes(plan, options.threads or default_threads())


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
