"""What live runs need: the keys in a file a run, under a kernel lock that is free the moment the run has died.

    <root>/holds/<run>.lock     held by the run; its content is the JSON list of keys
    <root>/holds/.lock          the gate: held while a run registers, and while things are removed

A run registers before it looks at what the store has, so what it finds there stays until it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunemerge.errors import StoreError
from tunemerge.store.atomic import make_folder, write_all
from tunemerge.store.lock import locked, try_lock

_FOLDER, _GATE = "holds", ".lock"


@contextmanager
def holding(root: Path, run: str, keys: Iterable[str]) -> Iterator[None]:
    """Until the block or the process ends, nothing under these keys is removed from the store. Raises StoreError."""
    folder = root / _FOLDER
    file = folder / f"{run}.lock"
    try:
        make_folder(folder)
        with locked(folder / _GATE):
            fd = _register(file, json.dumps(sorted(set(keys))).encode())
    except OSError as problem:
        raise StoreError(f"{file}: what this run needs can't be written down: {problem.strerror}") from problem
    try:
        yield
    finally:
        _release(fd, file)


def _register(file: Path, content: bytes) -> int:
    """The open file, locked and written; nothing is left of it on an error."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try_lock(fd)
        write_all(fd, content)
    except BaseException:
        _release(fd, file)
        raise
    return fd


def _release(fd: int, file: Path) -> None:
    """What can't be removed now is swept later: nobody holds it any more."""
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
    os.close(fd)


@contextmanager
def gate(root: Path) -> Iterator[frozenset[str]]:
    """The keys that live runs hold; no further run begins before the block ends. What dead runs left is swept."""
    with locked(root / _FOLDER / _GATE):
        yield frozenset(key for keys in _live(root).values() for key in keys)


def is_live(root: Path, run: str) -> bool:
    """Whether the process of this run is still there."""
    file = root / _FOLDER / f"{run}.lock"
    if not file.exists():
        return False
    with locked(file, wait=False) as dead:
        return not dead


def _keys(file: Path) -> list[str]:
    try:
        return [str(key) for key in json.loads(file.read_bytes())]
    except (ValueError, TypeError) as problem:
        text = f"{file}: a run is at work, and what it needs can't be read ({problem}); wait until it ends"
        raise StoreError(text) from None


def _live(root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in sorted((root / _FOLDER).glob("*.lock")):
        if file.name == _GATE:
            continue
        with locked(file, wait=False) as dead:
            if dead:
                file.unlink(missing_ok=True)
            else:
                found[file.stem] = _keys(file)
    return found
