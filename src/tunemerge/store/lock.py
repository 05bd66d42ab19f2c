"""Kernel locks between processes: the kernel frees them the moment the holder dies, so there are no time-outs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(fd: int) -> bool:
    """Take the exclusive lock of an open file if nobody holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the exclusive lock on `path` (made if missing, and never removed: removing one is a race).

    Yields True when the lock is held; with `wait=False` it yields False at once where another holds it.
    Two openings in one process exclude each other too, so a thread that waits for itself waits for ever.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if wait:
            fcntl.flock(fd, fcntl.LOCK_EX)
        held = wait or try_lock(fd)
        try:
            yield held
        finally:
            if held:  # unlocking frees it for all, even where a forked child still has the file open
                fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
