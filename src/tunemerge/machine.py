"""How much of this machine we may use: cores and memory, within the limits of a container or a batch job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_ROOT, _SAID = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_asked: ContextVar[int | None] = ContextVar("threads", default=None)


def threads() -> int:
    """What `limited` says, else NUMBA_NUM_THREADS or OMP_NUM_THREADS (workers are set to one), else `cores`."""
    asked = _asked.get()
    if asked is not None:
        return asked
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return cores()


@contextmanager
def limited(count: int | None) -> Iterator[None]:
    """Within the block `threads()` is `count`; None changes nothing."""
    token = _asked.set(count if count is not None else _asked.get())
    try:
        yield
    finally:
        _asked.reset(token)


def cores() -> int:
    """The processors that this process may run on, as far as its control group lets it use them; at least 1."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([there, *(round(share) for share in _processor_shares())]))


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return max(0, min([free, *_memory_left()]))


def _processor_shares() -> Iterator[float]:
    """Processors' worth of time that each control group above this process allows."""
    for group in _groups("cpu"):
        quota, period = [*_words(group / "cpu.max"), "", ""][:2]
        if not quota:
            quota, period = (" ".join(_words(group / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)


def _memory_left() -> Iterator[int]:
    """What each control group above this process has left; cached pages of files that are not in use are free."""
    for group in _groups("memory"):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = " ".join(_words(group / limit)), " ".join(_words(group / used))
            if most.isdigit() and now.isdigit():
                stat = _words(group / "memory.stat")
                kept = dict(zip(stat[::2], stat[1::2], strict=False)).get(cached, "0")
                yield int(most) - int(now) + int(kept)


def _groups(kind: str) -> Iterator[Path]:
    """The folders of the control groups that hold this process, up to the root (which a container sees as its own)."""
    for line in _lines(_SAID):
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if kinds and kind not in kinds.split(","):
            continue
        top = _ROOT / kinds if kinds else _ROOT
        inner = top / path.strip("/")
        while True:
            if inner.is_dir():
                yield inner
            if inner == top:
                break
            inner = inner.parent


def _words(file: Path) -> list[str]:
    return [word for line in _lines(file) for word in line.split()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, ValueError):
        return []
