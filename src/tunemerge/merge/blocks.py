"""One tensor through a method, block by block: read, widen, scan, combine, round once, hand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.source import Source
from tunemerge.errors import UsageError
from tunemerge.merge.method import SAMPLE, Block, Looking, Stream, Unit

BLOCK = 1 << 17
"""Elements of a block: enough that Python's calls don't count, few enough for a core's share of the cache."""

_PIECES = 8

Sink = Callable[[int, Array], None]
"""Takes (position of the first element, values in the output dtype); keeps no reference to the array."""


def stream_tensor(
    stream: Stream,
    sources: Sequence[Source],
    base: Source | None,
    shape: tuple[int, ...],
    out_dtype: str,
    sink: Sink,
    block: int = BLOCK,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Send all blocks of one tensor through `stream` and its results, rounded to `out_dtype`, to `sink`.

    Raises UsageError for NaN or Inf in a source, or where a result is too large for `out_dtype`; InterruptedMergeError
    as soon as `stop` says so. The block size changes speed, never a bit of the result.
    """
    size = int(np.prod(shape, dtype=np.int64))
    block = block_length(stream.unit, shape, block)
    loader = _Loader(sources, base, min(block, size), out_dtype)
    narrow = _Narrow(out_dtype, min(block, size))
    starts = range(0, size, block)
    if isinstance(stream, Looking) and stream.looks:
        for start, end in sample_pieces(size, block):
            stream.look(loader.load(start, end - start, check=False))
    index = 0
    while index < stream.passes:
        for start in starts:
            _check(stop)
            stream.scan(index, loader.load(start, min(block, size - start), check=index == 0))
        stream.finish(index)
        index += 1
    for start in starts:
        _check(stop)
        ready = loader.load(start, min(block, size - start), check=index == 0)
        stream.apply(ready)
        sink(start, narrow(ready.out))


def sample_pieces(size: int, block: int = BLOCK) -> list[tuple[int, int]]:
    """(first, behind the last) of about SAMPLE elements, in pieces spread over the tensor; all where there are few."""
    from tunemerge.merge.kernels.signatures import LANES

    length = SAMPLE // _PIECES
    if size <= SAMPLE:
        starts, length = [0], size
    else:
        starts = [(size - length) * i // (_PIECES - 1) // LANES * LANES for i in range(_PIECES)]
    return [(at, min(at + block, s + length)) for s in starts for at in range(s, s + length, block)]


def block_length(unit: Unit, shape: tuple[int, ...], block: int = BLOCK) -> int:
    """How many elements a block of such a tensor holds, about `block` where the unit leaves a choice."""
    size = int(np.prod(shape, dtype=np.int64))
    if unit == "element" or not size:
        return block
    if unit == "tensor":
        return size
    columns = shape[-1] if shape else 1
    return columns * max(1, block // columns)


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

    def __init__(self, sources: Sequence[Source], base: Source | None, block: int, out_dtype: str) -> None:
        everyone = [*sources, *([base] if base else [])]
        self._sources, self._n, self._has_base = everyone, len(sources), base is not None
        wide = np.float64 if out_dtype == "F64" or any(s.dtype == "F64" for s in everyone) else np.float32
        self._memory = np.empty(len(everyone) * block, wide)
        self._out = np.empty(block, wide)
        self._runs = _runs([s.dtype for s in everyone])
        longest = {dtype: max(b - a for d, a, b in self._runs if d == dtype) for dtype, _, _ in self._runs}
        self._raw = {d: np.empty(count * block, NUMPY[d]) for d, count in longest.items() if NUMPY[d] != wide}
        self._loaded = (-1, -1)

    def load(self, start: int, length: int, check: bool) -> Block:
        """Elements [start, start + length) of every source."""
        matrix = self._memory[: len(self._sources) * length].reshape(-1, length)
        if self._loaded != (start, length):
            for dtype, first, last in self._runs:
                self._fill(dtype, first, matrix[first:last], start, check)
            self._loaded = (start, length)
        base = matrix[self._n] if self._has_base else None
        return Block(matrix[: self._n], base, start, self._out[:length])

    def _fill(self, dtype: str, first: int, rows: Array, start: int, check: bool) -> None:
        """Read and widen neighbours of one dtype. UsageError for NaN or Inf where asked to look."""
        raw = self._raw[dtype][: rows.size].reshape(rows.shape) if dtype in self._raw else rows
        for i in range(len(rows)):
            self._sources[first + i].read_into(raw[i], start)
        bad = _widen(dtype, raw, rows, check)
        if bad and check:
            if dtype == "F16":
                rows[:] = raw
            for i, row in enumerate(rows):
                if not np.isfinite(row).all():
                    raise UsageError(_nonfinite(self._sources[first + i], start, row))


def _runs(dtypes: Sequence[str]) -> list[tuple[str, int, int]]:
    """(dtype, first, behind the last) of neighbours of the same dtype."""
    borders = [i for i in range(len(dtypes)) if i == 0 or dtypes[i] != dtypes[i - 1]]
    return [(dtypes[a], a, b) for a, b in zip(borders, [*borders[1:], len(dtypes)], strict=True)]


def _widen(dtype: str, raw: Array, rows: Array, check: bool) -> int:
    """Fill `rows` from `raw`; how many are NaN or Inf (0 where not asked)."""
    from tunemerge.merge.kernels import convert

    if dtype == "BF16" and rows.dtype == np.float32:
        return int(convert.widen_bf16(raw, rows.view(np.uint32)))
    if dtype == "F16" and rows.dtype == np.float32:
        from tunemerge.merge.kernels import half

        return int(half.widen_f16(raw.view(np.uint16), rows, rows.view(np.uint32)))
    if dtype == "BF16":
        rows[:] = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif raw is not rows:
        rows[:] = raw
    return int(convert.count_nonfinite(rows)) if check else 0


def _nonfinite(source: Source, start: int, row: NDArray[Any]) -> str:
    places = np.flatnonzero(~np.isfinite(row))
    value = "NaN" if np.isnan(row[places[0]]) else "Inf"
    return f"{source.where}: {value} at element {start + int(places[0]):,}; weights must be finite to be merged"


class _Narrow:
    """Rounds results, float32 (float64 where an input or the output is), to the output dtype, to nearest even."""

    def __init__(self, dtype: str, block: int) -> None:
        self._dtype = dtype
        self._out = np.empty(block, NUMPY[dtype])
        self._scratch = np.empty(block if dtype in ("BF16", "F16") else 0, np.float32)

    def __call__(self, values: Array) -> Array:
        out, scratch = self._out[: values.size], self._scratch[: values.size]
        if _narrow(self._dtype, values, out, scratch):
            largest = float(np.abs(values).max())
            raise UsageError(f"a merged value of {largest:g} does not fit {self._dtype}; choose a wider out_dtype")
        return out


def _narrow(dtype: str, values: Array, out: Array, scratch: NDArray[np.float32]) -> int:
    """Fill `out`; how many came out as NaN or Inf."""
    from tunemerge.merge.kernels import convert

    if dtype == "BF16":
        if values.dtype == np.float64:
            convert.narrow_to_odd(values, scratch, scratch.view(np.uint32))
            values = scratch
        return int(convert.narrow_bf16(values.view(np.uint32), out))
    if dtype == "F16" and values.dtype == np.float32:
        from tunemerge.merge.kernels import half

        bits = scratch.view(np.uint32)
        return int(half.narrow_f16(values, values.view(np.uint32), scratch, bits, out.view(np.uint16)))
    with np.errstate(over="ignore"):
        out[:] = values
    if dtype == "F16":
        return int(np.count_nonzero(~np.isfinite(out)))
    return int(convert.count_nonfinite(out[None]))
