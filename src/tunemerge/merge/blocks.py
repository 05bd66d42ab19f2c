"""One tensor through a method, block by block: read, widen, scan, combine, round once, hand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.source import Source
from tunemerge.errors import UsageError
from tunemerge.merge.loader import Loader
from tunemerge.merge.method import SAMPLE, Looking, Stream, Unit, takes_bf16

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
    memory: Array | None = None,
) -> None:
    """Send all blocks of one tensor through `stream` and its results, rounded to `out_dtype`, to `sink`.

    `memory` is room, in bytes, for what a second pass then need not read again; what is in it does not matter.

    Raises UsageError for NaN or Inf in a source, or where a result is too large for `out_dtype`; InterruptedMergeError
    as soon as `stop` says so. The block size changes speed, never a bit of the result.
    """
    size = int(np.prod(shape, dtype=np.int64))
    block = block_length(stream.unit, shape, block)
    again = memory if stream.passes else None
    loader = Loader(sources, base, size, min(block, size), out_dtype, again, stored=takes_bf16(stream))
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
