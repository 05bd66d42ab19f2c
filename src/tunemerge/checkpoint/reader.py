"""Reads tensors by byte range: no mapping of files into memory, so a file cut short meanwhile is an error."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np

from tunemerge.checkpoint.dtypes import NUMPY, Array, from_float32, to_float32
from tunemerge.checkpoint.header import unreadable
from tunemerge.checkpoint.model import Checkpoint
from tunemerge.errors import CheckpointError

__all__ = ["FileReader", "from_float32", "read_tensor", "to_float32"]


class FileReader:
    """An open file that several threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as problem:
            raise unreadable(path, problem) from problem

    def read_into(self, buffer: Array, offset: int, where: str = "") -> None:
        """Fill a contiguous array with the bytes at `offset`; CheckpointError where the file ends before.

        TunemergeError where the disk fails. Errors begin with `where`, or the file's name.
        """
        view = buffer.reshape(-1).view(np.uint8).data
        while view:
            try:
                got = os.preadv(self._fd, [view], offset)
            except OSError as problem:
                raise unreadable(where or self.path, problem) from problem
            if got <= 0:
                raise CheckpointError(f"{where or self.path}: ended at byte {offset:,} while it was being read")
            view, offset = view[got:], offset + got

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> FileReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_tensor(checkpoint: Checkpoint, name: str) -> Array:
    """One tensor as it is stored, in its shape; bfloat16 comes as uint16 bit patterns (see `to_float32`)."""
    if name not in checkpoint.located:
        raise CheckpointError(f"{checkpoint.folder}: no tensor {name!r}")
    info = checkpoint.tensors[name]
    out = np.empty(info.shape, NUMPY[info.dtype])
    with FileReader(checkpoint.file_of(name)) as file:
        file.read_into(out, info.start)
    return out
