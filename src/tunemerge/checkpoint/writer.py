"""Writes safetensors files whose tensors arrive in any order, in pieces, from several threads.

Names, dtypes and shapes are known before the first byte, so the header goes first and every piece is written
at its final place; nothing is held in memory and nothing is copied twice.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunemerge.checkpoint.dtypes import Array, itemsize
from tunemerge.checkpoint.model import INDEX, SINGLE

SHARD_BYTES = 5_000_000_000


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
        for name, spec in sorted(specs.items(), key=lambda item: (-itemsize(item[1].dtype), item[0])):
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
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._write(memoryview(len(raw).to_bytes(8, "little") + raw), 0)

    def write(self, name: str, element: int, values: Array) -> None:
        """Put contiguous `values` at position `element` (in elements) of tensor `name`. Safe from any thread."""
        view = values.reshape(-1).view(np.uint8).data
        self._write(view, self._data + self._start[name] + element * values.itemsize)

    def close(self) -> None:
        """Give the file its full length and put it on disk."""
        os.ftruncate(self._fd, self._size)
        os.fsync(self._fd)
        self.abandon()

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
    """All weight files of a model folder: one file, or shards with an index, by size."""

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
        self._writers = {
            file: ShardWriter(folder / file, {n: self.specs[n] for n in names}, metadata)
            for file, names in zip(self.files, shards, strict=True)
        }

    def write(self, name: str, element: int, values: Array) -> None:
        """See ShardWriter.write."""
        self._writers[self._file_of[name]].write(name, element, values)

    def close(self) -> None:
        """Finish all files, and the index where there are several."""
        for writer in self._writers.values():
            writer.close()
        if len(self.files) > 1:
            total = sum(spec.nbytes for spec in self.specs.values())
            index = {"metadata": {"total_size": total}, "weight_map": self._file_of}
            (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")

    def abandon(self) -> None:
        """Close everything unfinished; the caller removes the folder."""
        for writer in self._writers.values():
            writer.abandon()


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
