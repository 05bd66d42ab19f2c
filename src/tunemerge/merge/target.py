"""The folder that a merge writes: refused where it is not ours, filled beside its place, renamed into it at the end."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunemerge.errors import TunemergeError, UsageError
from tunemerge.merge.folder import RECORD
from tunemerge.store.atomic import refuse_foreign
from tunemerge.store.lock import try_lock


def refuse_target(out: Path, inputs: Collection[Path], record: str = RECORD) -> None:
    """UsageError where `out` is or holds one of the inputs, is a link, or was not made here (it has no `record`).

    The old folder is removed once the new one is there, and with it would go whatever of the inputs it holds.
    """
    if out.is_symlink():
        raise UsageError(f"{out}: is a link (to {out.resolve()}); name the folder itself")
    if not out.exists():
        return
    place = out.resolve()
    held = [path for path in inputs if Path(path).exists() and Path(path).resolve().is_relative_to(place)]
    if held:
        what = "is" if Path(held[0]).resolve() == place else f"holds {held[0]},"
        raise UsageError(f"{out}: {what} one of the inputs; choose another output folder")
    refuse_foreign(out, record)


def free_bytes(out: Path) -> tuple[Path, int]:
    """(the nearest folder that exists, what is free there)."""
    parent = next(folder for folder in (out.absolute().parent, *out.absolute().parents) if folder.exists())
    return parent, shutil.disk_usage(parent).free


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out`, locked by this process; what killed merges left there is removed first.

    UsageError where nothing can be made there; TunemergeError for a disk that is full or fails, also inside the block.
    """
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".merging", dir=parent))
    except OSError as problem:
        kind = TunemergeError if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else UsageError
        raise kind(f"{parent}: can't write there: {problem.strerror}") from problem
    lock = -1
    try:
        lock = os.open(work, os.O_RDONLY)
        if not try_lock(lock):  # another merge to the same place takes it for a dead one's, and is removing it
            raise UsageError(f"{out}: another merge to the same folder is just beginning; try again when it is done")
        for left in sorted(parent.glob(f".{glob.escape(out.name)}.*.merging")):
            _sweep(left)
        work.chmod(0o777 & ~_umask())
        yield work
    except OSError as problem:
        raise TunemergeError(f"{out}: writing the merged model failed: {problem.strerror or problem}") from problem
    finally:
        shutil.rmtree(work, ignore_errors=True)
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
