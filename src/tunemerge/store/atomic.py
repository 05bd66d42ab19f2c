"""Writes that are all there or not there at all, also after a power cut: temporary name, fsync, rename, fsync."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tunemerge.errors import UsageError
from tunemerge.store.beside import folder_beside


def write_all(fd: int, data: bytes) -> None:
    """os.write until every byte is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_tree(folder: Path) -> None:
    """fsync every file and folder under `folder`, and the folder itself."""
    for parent, _, files in os.walk(folder, topdown=False, onerror=_raise):
        for name in sorted(files):
            fsync_path(Path(parent) / name)
        fsync_path(Path(parent))


def make_folder(path: Path) -> None:
    """mkdir -p whose new entries are durable."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    fsync_path(path.parent)


def link(file: Path, target: Path) -> None:
    """A second name for the same bytes; a copy on disks that can't."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def write_file(path: Path, data: bytes) -> None:
    """Write or replace a file; a crash leaves the old bytes or the new ones, and an error the old ones."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)  # noqa: PTH105 (beside the other os calls)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def replace_folder(temporary: Path, target: Path) -> None:
    """Durably put the folder `temporary` at `target` (same file system); what was there before is removed.

    On an error (OSError) nothing, or what was there before, stands at `target`. So it does after a kill where
    the system can exchange two folders in one step; elsewhere the old one may be left beside, under a hidden name.
    """
    fsync_tree(temporary)
    make_folder(target.parent)
    if target.exists() and _exchanged(temporary, target):
        try:
            fsync_path(target.parent)
        except BaseException:
            _exchanged(temporary, target)
            raise
        shutil.rmtree(temporary, ignore_errors=True)
        return
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    had_old = target.exists()
    if had_old:
        target.rename(old)
    try:
        temporary.rename(target)
        try:
            fsync_path(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                target.rename(temporary)
            raise
    except BaseException:
        if had_old:
            with contextlib.suppress(OSError):
                old.rename(target)
        raise
    if had_old:
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False, with nothing done, where the system or the file system can't."""
    import ctypes

    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    rename: Callable[..., int] | None = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def refuse_foreign(target: Path, mark: str) -> None:
    """UsageError unless `target` is new, an empty folder, or one with the file `mark`, which we leave in ours."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{target}: exists and is not a folder; choose another output folder")
    if any(target.iterdir()) and not (target / mark).exists():
        raise UsageError(
            f"{target}: exists and has no {mark}, so it was not made here and is not replaced; "
            "choose another name or remove it"
        )


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target` to fill; it takes the target's place when the block ends without an error.

    What stands at `target` is removed: `refuse_foreign` says beforehand whether that is ours.
    """
    make_folder(target.parent)
    with folder_beside(target) as temporary:
        yield temporary
        replace_folder(temporary, target)


def _raise(error: OSError) -> None:
    raise error
