"""Folders that are being filled beside their final place, and what killed processes left of such folders."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunemerge.errors import UsageError
from tunemerge.store.lock import try_lock

SUFFIX = ".unfinished"


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target`, locked by this process and removed at the end, unless it was renamed.

    What killed processes left beside this target is removed first. The parent must be there (OSError). UsageError where
    another process begins at the same moment.
    """
    parent = target.absolute().parent
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=parent))
    lock = -1
    try:
        lock = os.open(folder, os.O_RDONLY)
        if not try_lock(lock):  # the other one takes it for a dead one's, and is removing it
            raise UsageError(f"{target}: another process just begins to write this folder; try again when it is done")
        for left in sorted(parent.glob(f".{glob.escape(target.name)}.*{SUFFIX}")):
            _sweep(left)
        folder.chmod(0o777 & ~_umask())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock >= 0:
            os.close(lock)


def _umask() -> int:
    """What this process masks; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sweep(left: Path) -> None:
    """Remove the folder of a process that is dead; one that is held, or gone by now, is let alone."""
    with contextlib.suppress(FileNotFoundError):
        held = os.open(left, os.O_RDONLY)
        try:
            if try_lock(held):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(held)
