"""Where the values of tensors come from: files, memory, or a view of another model.

Whatever has named tensors that can be read in pieces is a Model, so adapters, permutations and common vocabularies
are views that stack, and every merge method runs on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from tunemerge.checkpoint.dtypes import NUMPY, Array, itemsize
from tunemerge.checkpoint.header import TensorInfo, read_header
from tunemerge.checkpoint.model import Checkpoint
from tunemerge.checkpoint.reader import FileReader
from tunemerge.errors import CheckpointError, UsageError

_DTYPES = {dtype: name for name, dtype in NUMPY.items() if not name.startswith("F8") and name != "U16"}


class Source(Protocol):
    """One model's copy of one tensor, readable in pieces from any thread. `where` names it in errors."""

    @property
    def dtype(self) -> str: ...

    @property
    def where(self) -> str: ...

    def read_into(self, buffer: Array, start: int) -> None:
        """Fill the contiguous 1-d `buffer`, of the NumPy dtype of `dtype`, with the elements from `start` on."""


class Model(Protocol):
    """Named tensors. `label` is how errors call the model."""

    @property
    def label(self) -> str: ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    def source(self, name: str) -> Source: ...


@dataclass(frozen=True)
class ArraySource:
    """A flat array in memory."""

    values: Array
    dtype: str
    where: str

    def read_into(self, buffer: Array, start: int) -> None:
        buffer[:] = self.values[start : start + buffer.size]


@dataclass(frozen=True)
class ArrayModel:
    """A dict of NumPy arrays; uint16 arrays are bfloat16 bit patterns. UsageError for what is no tensor."""

    label: str
    state: Mapping[str, Array]

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        infos = {}
        for name, array in self.state.items():
            dtype = _DTYPES.get(array.dtype) if isinstance(array, np.ndarray) else None
            if dtype is None:
                kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise UsageError(f"{name}: a {kind} can't be merged; give NumPy arrays of numbers")
            infos[name] = TensorInfo(dtype, array.shape, 0, array.nbytes)
        return infos

    def source(self, name: str) -> Source:
        flat = np.ascontiguousarray(self.state[name]).reshape(-1)
        return ArraySource(flat, self.tensors[name].dtype, f"{self.label}: {name}")


@dataclass(frozen=True)
class FileSource:
    """A tensor in an open file; `offset` is the position of its first byte."""

    reader: FileReader
    offset: int
    dtype: str
    where: str

    def read_into(self, buffer: Array, start: int) -> None:
        self.reader.read_into(buffer, self.offset + start * itemsize(self.dtype), self.where)


@dataclass(frozen=True)
class FileModel:
    """A checkpoint whose weight files are open."""

    checkpoint: Checkpoint
    readers: Mapping[Path, FileReader]

    @property
    def label(self) -> str:
        return str(self.checkpoint.folder)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.checkpoint.tensors

    def source(self, name: str) -> Source:
        info, path = self.checkpoint.tensors[name], self.checkpoint.file_of(name)
        return FileSource(self.readers[path], info.start, info.dtype, f"{path}: {name}")


@contextmanager
def open_model(checkpoint: Checkpoint) -> Iterator[FileModel]:
    """Keep the checkpoint's files open for reading.

    Raises CheckpointError where one can't be opened, or has been written anew since its header was read.
    """
    with ExitStack() as stack:
        readers = {}
        for file in checkpoint.files:
            path = checkpoint.folder / file
            readers[path] = stack.enter_context(FileReader(path))
            known = {name: info for name, (info, place) in checkpoint.located.items() if place == file}
            if read_header(path).tensors != known:
                raise CheckpointError(f"{path}: was written anew while it was being looked at; start again")
        yield FileModel(checkpoint, readers)
