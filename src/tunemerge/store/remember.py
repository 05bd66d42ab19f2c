"""Digests of large files that outlive the process, so that a model is not read from end to end at every plan.

A digest is remembered by path, size, both times, inode and device. A file that was changed a moment before it was
read is not remembered: a second change within the same tick of the file system's clock would go unseen. A
damaged, foreign or unwritable cache costs time, never a wrong digest. What stat does not show (a failing disk, a write
through a memory map that is still going on, a clock that runs backwards) is not seen here either: what the store keeps
for good is verified by reading it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tunemerge.errors import StoreError
from tunemerge.store.digest import seal, unseal

SMALL = 1 << 20
"""Files below this many bytes are read each time: that takes as long as asking the cache."""

FRESH = 2_000_000_000
"""Nanoseconds. The coarsest clock of a file system in use (FAT) ticks every two seconds."""

_LARGEST_ENTRY = 1 << 16


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, as `sha256sum` and the Hub give it.

    StoreError where the path is no plain file, can't be read, or changes while it is read.
    """
    path = Path(path).absolute()
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path}: not a plain file, so it has no digest")
        entry = _entry(path) if found.st_size >= SMALL else None
        known = _recall(entry, path, found) if entry else None
        if known:
            return known
        with path.open("rb") as file:
            before, now = os.fstat(file.fileno()), time.time_ns()
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except OSError as problem:
        raise StoreError(f"{path}: can't be read: {problem.strerror or problem}") from problem
    if _stamp(before) != _stamp(after):
        raise StoreError(f"{path}: changed while it was read; wait until it is complete, then run again")
    if entry and now - max(before.st_mtime_ns, before.st_ctime_ns) > FRESH:
        _keep(entry, seal({"path": str(path), "stamp": _stamp(before), "sha256": digest}))
    return digest


def file_digests(paths: Iterable[Path], threads: int) -> dict[Path, str]:
    """`file_digest` of several files at once, by the paths as given."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max(1, threads), "digest") as pool:
        return dict(zip(wanted, pool.map(file_digest, wanted), strict=True))


def cache_folder() -> Path | None:
    """TUNEMERGE_CACHE, or tunemerge/ in XDG_CACHE_HOME or ~/.cache; None where a person has no home."""
    own, shared = os.environ.get("TUNEMERGE_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).absolute()
    if Path(shared).is_absolute():  # the standard says to ignore a relative one
        return Path(shared) / "tunemerge"
    try:
        return Path.home() / ".cache" / "tunemerge"
    except RuntimeError:
        return None


def _entry(path: Path) -> Path | None:
    folder = cache_folder()
    return folder and folder / "digests" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.json"


def _keep(entry: Path, line: bytes) -> None:
    """Replace an entry in one move. Nothing waits for the disk: what a power cut leaves fails its checksum."""
    temporary = entry.with_name(f".{entry.name}.{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(OSError):
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.write_bytes(line)
            temporary.replace(entry)
        finally:
            temporary.unlink(missing_ok=True)


def _recall(entry: Path, path: Path, found: os.stat_result) -> str | None:
    try:
        with entry.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():  # anybody may have put it into a shared folder
                return None
            kept = unseal(file.read(_LARGEST_ENTRY))
        same = kept["path"] == str(path) and kept["stamp"] == _stamp(found)
        digest = kept["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return digest if same and isinstance(digest, str) else None


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]
