"""The journal: one checksummed line a fact, appended under a kernel lock and fsynced before `append` returns."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.errors import StoreError
from tunemerge.store.atomic import fsync_path, make_folder, write_all
from tunemerge.store.digest import seal, unseal

_FIX = "take the line out by hand, or move the journal away to start a new one"


class Journal:
    """Several processes may append to one journal at once.

    A crash can only tear the last line. A torn last line is not read, and the next append cuts it off under
    the lock. A damaged line before the last is no torn write but damage, and an error that names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one entry (JSON, no NaN). On an error (StoreError) the journal is as it was before."""
        line = seal(dict(entry))
        try:
            self._append(line)
        except OSError as problem:
            raise StoreError(f"{self.path}: the journal can't be written: {problem.strerror}") from problem

    def _append(self, line: bytes) -> None:
        make_folder(self.path.parent)
        new = not self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            sound = size - _torn(fd, size)
            if sound < size:
                os.ftruncate(fd, sound)
            try:
                write_all(fd, line)
                os.fsync(fd)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, sound)
                raise
        finally:
            os.close(fd)
        if new:
            fsync_path(self.path.parent)

    def read(self) -> list[dict[str, Any]]:
        """All entries, oldest first; none where there is no journal yet."""
        entries: list[dict[str, Any]] = []
        lines = self._lines()
        for number, line in enumerate(lines, start=1):
            try:
                entries.append(unseal(line))
            except (ValueError, KeyError) as problem:
                if number == len(lines):
                    break
                raise StoreError(f"{self._damaged(number, len(lines), problem)}; {_FIX}") from problem
        return entries

    def damage(self) -> list[tuple[str, str]]:
        """Every line that is not as it was written, and what to do; the last one, too, which a crash may have torn."""
        out = []
        lines = self._lines()
        for number, line in enumerate(lines, start=1):
            try:
                unseal(line)
            except (ValueError, KeyError) as problem:
                fix = "it is not read, and the next run cuts it off" if number == len(lines) else _FIX
                out.append((self._damaged(number, len(lines), problem), fix))
        return out

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []

    def _damaged(self, number: int, of: int, problem: Exception) -> str:
        return f"{self.path}, line {number} of {of}: damaged ({problem})"


def _torn(fd: int, size: int) -> int:
    """Bytes at the end of the file that are no whole, sound line."""
    tail, start = b"", size
    while start and tail.count(b"\n", 0, max(len(tail) - 1, 0)) == 0:
        start = max(0, start - 4096)
        tail = os.pread(fd, size - start, start)
    last = tail[tail.rfind(b"\n", 0, max(len(tail) - 1, 0)) + 1 :]
    try:
        unseal(last)
    except (ValueError, KeyError):
        return len(last)
    return 0
