"""One tensor through a method, block by block: read, widen, scan, combine, round once, hand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.errors import UsageError
from tunemerge.merge.method import Block, Stream

BLOCK = 1 << 16
"""Elements of a block: small enough for a core's cache, and a multiple of 8 as streams require."""

Sink = Callable[[int, Array], None]
"""Takes (position of the first element, values in the output dtype); keeps no reference to the array."""


class Source(Protocol):
    """One model's copy of a tensor, readable in pieces. `where` names it in errors."""

    @property
    def dtype(self) -> str: ...

    @property
    def where(self) -> str: ...

    def read_into(self, buffer: Array, start: int) -> None:
        """Fill `buffer`, of the source's own NumPy dtype, with the elements from `start` on."""


@dataclass(frozen=True)
class ArraySource:
    """A flat array in memory."""

    values: Array
    dtype: str
    where: str

    def read_into(self, buffer: Array, start: int) -> None:
        buffer[:] = self.values[start : start + buffer.size]


def stream_tensor(
    stream: Stream,
    sources: Sequence[Source],
    base: Source | None,
    size: int,
    out_dtype: str,
    sink: Sink,
    block: int = BLOCK,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Send all blocks of one tensor through `stream` and its results, rounded to `out_dtype`, to `sink`.

    Raises UsageError for NaN or Inf in a source, or where a result is too large for `out_dtype`; InterruptedMergeError
    as soon as `stop` says so. The block size changes speed, never a bit of the result.
    """
    block = min(block, size)
    loader = _Loader(sources, base, block)
    narrow = _Narrow(out_dtype, block)
    starts = range(0, size, block) if size else range(0)
    for index in range(stream.passes):
        for start in starts:
            _check(stop)
            stream.scan(index, loader.load(start, min(block, size - start), check=index == 0))
        stream.finish(index)
    for start in starts:
        _check(stop)
        ready = loader.load(start, min(block, size - start), check=stream.passes == 0)
        stream.apply(ready)
        sink(start, narrow(ready.out))


def copy_equal(sources: Sequence[Source], size: int, sink: Sink, block: int = BLOCK) -> None:
    """Hand on a tensor that is no floating-point one; UsageError unless it is the same in all sources."""
    dtype = NUMPY[sources[0].dtype]
    first, other = np.empty(min(block, size), dtype), np.empty(min(block, size), dtype)
    for start in range(0, size, max(first.size, 1)):
        length = min(first.size, size - start)
        sources[0].read_into(first[:length], start)
        for source in sources[1:]:
            source.read_into(other[:length], start)
            if not np.array_equal(first[:length].view(np.uint8), other[:length].view(np.uint8)):
                raise UsageError(
                    f"{source.where}: differs from {sources[0].where}, and {source.dtype} tensors are only copied, "
                    "never merged"
                )
        sink(start, first[:length])


class InterruptedMergeError(Exception):
    """Another thread failed or the person pressed Ctrl-C; nothing to report."""


def _check(stop: Callable[[], bool]) -> None:
    if stop():
        raise InterruptedMergeError


class _Loader:
    """Widens blocks of all sources into one matrix; a tensor that is a single block is read only once."""

    def __init__(self, sources: Sequence[Source], base: Source | None, block: int) -> None:
        self._sources = [*sources, *([base] if base else [])]
        self._n, self._has_base = len(sources), base is not None
        wide = np.float64 if any(s.dtype == "F64" for s in self._sources) else np.float32
        self._memory = np.empty(len(self._sources) * block, wide)
        self._raw = {s.dtype: np.empty(block, NUMPY[s.dtype]) for s in self._sources}
        self._out = np.empty(block, np.float64)
        self._loaded = (-1, -1)

    def load(self, start: int, length: int, check: bool) -> Block:
        """Elements [start, start + length) of every source."""
        matrix = self._memory[: len(self._sources) * length].reshape(-1, length)
        if self._loaded != (start, length):
            for source, row in zip(self._sources, matrix, strict=True):
                if _fill(source, start, row, self._raw[source.dtype][:length], check):
                    raise UsageError(_nonfinite(source, start, row))
            self._loaded = (start, length)
        base = matrix[self._n] if self._has_base else None
        return Block(matrix[: self._n], base, start, self._out[:length])


def _fill(source: Source, start: int, row: Array, raw: Array, check: bool) -> bool:
    """Read and widen one row; whether it holds NaN or Inf (False where not asked)."""
    from tunemerge.merge.kernels import convert

    if source.dtype == "BF16":
        source.read_into(raw, start)
        if row.dtype == np.float32:
            return convert.widen_bf16(raw, row.view(np.uint32)) > 0
        row[:] = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif raw.dtype == row.dtype:
        source.read_into(row, start)
    else:
        source.read_into(raw, start)
        row[:] = raw
    return check and convert.count_nonfinite(row) > 0


def _nonfinite(source: Source, start: int, row: NDArray[Any]) -> str:
    places = np.flatnonzero(~np.isfinite(row))
    value = "NaN" if np.isnan(row[places[0]]) else "Inf"
    return f"{source.where}: {value} at element {start + int(places[0]):,}; weights must be finite to be merged"


class _Narrow:
    """Rounds float64 results to the output dtype, once, to nearest even."""

    def __init__(self, dtype: str, block: int) -> None:
        self._dtype = dtype
        self._out = np.empty(block, NUMPY[dtype])
        self._scratch = np.empty(block if dtype == "BF16" else 0, np.float32)

    def __call__(self, values: NDArray[np.float64]) -> Array:
        from tunemerge.merge.kernels import convert

        out = self._out[: values.size]
        if self._dtype == "BF16":
            scratch = self._scratch[: values.size]
            convert.narrow_bf16(values, scratch, scratch.view(np.uint32), out)
            finite = bool(((out & 0x7F80) != 0x7F80).all())
        elif self._dtype == "F32":
            convert.narrow_f32(values, out)
            finite = convert.count_nonfinite(out) == 0
        else:
            with np.errstate(over="ignore"):
                out[:] = values
            finite = bool(np.isfinite(out).all())
        if not finite:
            largest = float(np.abs(values).max())
            raise UsageError(f"a merged value of {largest:g} does not fit {self._dtype}; choose a wider out_dtype")
        return out
