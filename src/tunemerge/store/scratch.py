"""Scratch space: one folder a process, owned by a kernel lock, so that what dead processes left can be swept."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from tunemerge.store.atomic import make_folder
from tunemerge.store.lock import locked, try_lock

# By process and root. The lock's file stays open until the process ends; a forked child makes its own.
_OWNED: dict[tuple[int, Path], Path] = {}


def owned_folder(root: Path) -> Path:
    """This process's own folder under `root`; the first call of a process sweeps those of dead ones."""
    folder = _OWNED.get((os.getpid(), root))
    if folder is None or not folder.is_dir():
        folder = _OWNED[os.getpid(), root] = _claim(root)
    return folder


def _claim(root: Path) -> Path:
    make_folder(root)
    with locked(root / ".lock"):  # nobody sweeps between the making of a lock file and its locking
        for lock in sorted(root.glob("*.lock")):
            if lock.name != ".lock":
                _sweep(lock)
        folder = root / secrets.token_hex(6)
        try_lock(os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        folder.mkdir()
    return folder


def _sweep(lock: Path) -> None:
    with locked(lock, wait=False) as dead:
        if dead:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
