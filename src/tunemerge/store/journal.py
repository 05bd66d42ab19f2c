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

    A crash can only tear the last line: its end is missing, or blocks of it are zeros. A torn last line is not read,
    and the next append cuts it off under the lock. Any other line that is not as it was written is damage, and an error
    that names it: it is never cut off.
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
            last = _last_line(fd, size)
            problem = _problem(last)
            if problem and not _torn(last):
                raise StoreError(f"{self.path}, last line: damaged ({problem}); {_FIX}")
            sound = size - len(last) if problem else size
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
                if number == len(lines) and _torn(line):
                    break
                raise StoreError(f"{self._damaged(number, len(lines), problem)}; {_FIX}") from problem
        return entries

    def damage(self) -> list[tuple[str, str]]:
        """Every line that is not as it was written, and what to do; the last one, too, which a crash may have torn."""
        out = []
        lines = self._lines()
        for number, line in enumerate(lines, start=1):
            if problem := _problem(line):
                torn = number == len(lines) and _torn(line)
                fix = "it is not read, and the next run cuts it off" if torn else _FIX
                out.append((self._damaged(number, len(lines), problem), fix))
        return out

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []

    def _damaged(self, number: int, of: int, problem: Exception) -> str:
        return f"{self.path}, line {number} of {of}: damaged ({problem})"


def _last_line(fd: int, size: int) -> bytes:
    """The last line, with its newline if it has one."""
    tail, start = b"", size
    while start and tail.count(b"\n", 0, max(len(tail) - 1, 0)) == 0:
        start = max(0, start - 4096)
        tail = os.pread(fd, size - start, start)
    return tail[tail.rfind(b"\n", 0, max(len(tail) - 1, 0)) + 1 :]


def _problem(line: bytes) -> Exception | None:
    """What is wrong with a line; an empty file has an empty one."""
    try:
        unseal(line)
    except (ValueError, KeyError) as problem:
        return problem
    return None


def _torn(line: bytes) -> bool:
    """Whether a crash can have left this last line, which is not sound: its end is missing, or a block of it was never
    written. One that goes on behind a sound entry has lost its newline otherwise."""
    whole = line.endswith(b"\n") or _problem(line[:-1] + b"\n") is None
    return not whole or b"\0" in line
