"""The folder that a merge writes: refused where it is not ours, filled beside its place, renamed into it at the end."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunemerge.errors import TunemergeError, UsageError
from tunemerge.merge.folder import RECORD
from tunemerge.store.atomic import refuse_foreign
from tunemerge.store.beside import folder_beside


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
    """`folder_beside` that makes the parent too.

    UsageError where nothing can be made there; TunemergeError for a disk that is full or fails, also inside the block.
    """
    parent, made = out.absolute().parent, False
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(out) as work:
            made = True
            yield work
    except OSError as problem:
        if made or problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise TunemergeError(f"{out}: writing the merged model failed: {problem.strerror or problem}") from problem
        raise UsageError(f"{parent}: can't write there: {problem.strerror}") from problem
