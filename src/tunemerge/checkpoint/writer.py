"""Writes safetensors files whose tensors arrive in any order, in pieces, from several threads.

Names, dtypes and shapes are known before the first byte, so the header goes first and every piece is written
at its final place; nothing is held in memory and nothing is copied twice.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from tunemerge.checkpoint.dtypes import Array, itemsize
from tunemerge.checkpoint.model import INDEX, SINGLE
from tunemerge.errors import TunemergeError

SHARD_BYTES = 5_000_000_000
_PIECE = 1 << 18
_SETTLED = 1 << 25
"""Bytes that are hashed and sent to the disk at a time, at least; each time the disk is waited for."""


@dataclass(frozen=True)
class TensorSpec:
    """What is going to be written: dtype as safetensors names it, and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * itemsize(self.dtype)


class ShardWriter:
    """One file. Tensors lie by falling alignment, then name, so the same specs give the same layout."""

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> None:
        self.path = path
        header: dict[str, object] = {"__metadata__": {"format": "pt", **dict(sorted(metadata.items()))}}
        position, self._start = 0, dict[str, int]()
        for name in layout(specs):
            spec = specs[name]
            self._start[name] = position
            header[name] = {
                "dtype": spec.dtype,
                "shape": list(spec.shape),
                "data_offsets": [position, position + spec.nbytes],
            }
            position += spec.nbytes
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)
        self._data, self._size = 8 + len(raw), 8 + len(raw) + position
        self._sha = hashlib.sha256()
        self._hashed = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._write(memoryview(len(raw).to_bytes(8, "little") + raw), 0)

    def write(self, name: str, element: int, values: Array) -> None:
        """Put contiguous `values` at position `element` (in elements) of tensor `name`. Safe from any thread."""
        view = values.reshape(-1).view(np.uint8).data
        try:
            self._write(view, self._data + self._start[name] + element * values.itemsize)
        except OSError as problem:
            raise TunemergeError(f"{self.path}: {name}: writing failed: {problem.strerror or problem}") from problem

    def settle(self, up_to: str | None) -> None:
        """Everything before tensor `up_to` (None: everything) is written: hash it, and start it on its way to disk."""
        end = self._size if up_to is None else self._data + self._start[up_to]
        buffer = memoryview(bytearray(min(_PIECE, max(end - self._hashed, 1))))
        while self._hashed < end:
            got = os.preadv(self._fd, [buffer[: end - self._hashed]], self._hashed)
            if got <= 0:
                raise OSError(errno.EIO, "what was just written can't be read back", str(self.path))
            self._sha.update(buffer[:got])
            self._hashed += got
        os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)

    def close(self) -> str:
        """Put the file on disk; its SHA-256."""
        os.ftruncate(self._fd, self._size)
        self.settle(None)
        os.fsync(self._fd)
        self.abandon()
        return self._sha.hexdigest()

    def abandon(self) -> None:
        """Close without finishing, where still open; the caller removes the file."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _write(self, view: memoryview, offset: int) -> None:
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done


class CheckpointWriter:
    """All weight files of a model folder: one file, or shards with an index, by size.

    While tensors are still being merged, a thread of its own hashes what is complete and sends it to the disk.
    """

    def __init__(
        self,
        folder: Path,
        specs: Mapping[str, TensorSpec],
        metadata: Mapping[str, str],
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder, self.specs = folder, dict(sorted(specs.items()))
        shards = split_shards(self.specs, shard_bytes)
        self.files = shard_names(len(shards))
        self._file_of = {name: file for file, names in zip(self.files, shards, strict=True) for name in names}
        by_file = {file: {n: self.specs[n] for n in names} for file, names in zip(self.files, shards, strict=True)}
        self._writers = {file: ShardWriter(folder / file, of, metadata) for file, of in by_file.items()}
        self._open_ends = {file: deque(layout(of)) for file, of in by_file.items()}
        self._complete: set[str] = set()
        self._unsettled = dict.fromkeys(by_file, 0)
        self._settler = ThreadPoolExecutor(1, "settle")
        self._settling: list[Future[None]] = []

    def write(self, name: str, element: int, values: Array) -> None:
        """See ShardWriter.write."""
        self._writers[self._file_of[name]].write(name, element, values)

    def finished(self, name: str) -> None:
        """All of this tensor is written. Call it from one thread."""
        file = self._file_of[name]
        waiting = self._open_ends[file]
        self._complete.add(name)
        if waiting[0] == name:
            while waiting and waiting[0] in self._complete:
                self._unsettled[file] += self.specs[waiting.popleft()].nbytes
            if waiting and self._unsettled[file] >= _SETTLED:
                self._unsettled[file] = 0
                self._settling.append(self._settler.submit(self._writers[file].settle, waiting[0]))

    def close(self) -> dict[str, str]:
        """Finish all files, and the index where there are several; the SHA-256 of each weight file."""
        for settled in self._settling:
            settled.result()
        digests = {file: writer.close() for file, writer in self._writers.items()}
        if len(self.files) > 1:
            total = sum(spec.nbytes for spec in self.specs.values())
            index = {"metadata": {"total_size": total}, "weight_map": self._file_of}
            (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
        return digests

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settler.shutdown(wait=True, cancel_futures=True)
        for writer in self._writers.values():
            writer.abandon()


def layout(specs: Mapping[str, TensorSpec]) -> list[str]:
    """The order of tensors in one file: by falling alignment, then name."""
    return sorted(specs, key=lambda name: (-itemsize(specs[name].dtype), name))


def file_order(specs: Mapping[str, TensorSpec], shard_bytes: int = SHARD_BYTES) -> list[str]:
    """All tensors in the order in which they lie on disk."""
    ordered = dict(sorted(specs.items()))
    shards = split_shards(ordered, shard_bytes)
    return [name for names in shards for name in layout({n: ordered[n] for n in names})]


def split_shards(specs: Mapping[str, TensorSpec], shard_bytes: int) -> list[list[str]]:
    """Names in order, cut where a shard would grow over `shard_bytes` (a larger tensor stands alone)."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, spec in specs.items():
        if shards[-1] and filled + spec.nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += spec.nbytes
    return shards


def shard_names(count: int) -> list[str]:
    """The file names that transformers expects."""
    if count == 1:
        return [SINGLE]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
