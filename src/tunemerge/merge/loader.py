"""Blocks of all sources of a tensor, read and widened into one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.source import Source
from tunemerge.errors import UsageError
from tunemerge.merge.method import Block

KEPT_BYTES = 1 << 25
"""Room for each thread to keep what it read of a tensor, for the next pass: copying it from the system's cache again
takes longer."""

_ALIGNED = 64


class Loader:
    """Widens blocks of all sources into one matrix; a tensor that is a single block is read only once.

    What was read of the first blocks is kept in `memory`, as it is stored, and not read again, where that is half of
    the tensor or more; less would not pay. Numbers that need no widening are always read again: to copy them from
    there costs as much.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        base: Source | None,
        size: int,
        block: int,
        out_dtype: str,
        memory: Array | None = None,
        *,
        stored: bool = False,
    ) -> None:
        everyone = [*sources, *([base] if base else [])]
        self._sources, self._n, self._has_base, self._block = everyone, len(sources), base is not None, block
        wide = np.float64 if out_dtype == "F64" or any(s.dtype == "F64" for s in everyone) else np.float32
        self._stored = stored and wide == np.float32 and all(s.dtype == "BF16" for s in everyone)
        self._matrix = np.empty(0 if self._stored else len(everyone) * block, wide)
        self._out = np.empty(block, wide)
        self._runs = _runs([s.dtype for s in everyone])
        longest = {dtype: max(b - a for d, a, b in self._runs if d == dtype) for dtype, _, _ in self._runs}
        self._raw = {d: np.empty(count * block, NUMPY[d]) for d, count in longest.items() if NUMPY[d] != wide}
        sizes = [(b - a) * block * NUMPY[d].itemsize if d in self._raw else 0 for d, a, b in self._runs]
        self._places = np.cumsum([0, *(-(-size // _ALIGNED) * _ALIGNED for size in sizes)]).tolist()
        self._memory = memory
        slots = memory.size // self._places[-1] if memory is not None and self._places[-1] else 0
        self._kept = np.zeros((slots if 2 * slots * block >= size else 0, len(self._runs)), np.int64)
        self._loaded: tuple[int, int, Array] = (-1, -1, self._matrix)

    def load(self, start: int, length: int, check: bool) -> Block:
        """Elements [start, start + length) of every source. UsageError for NaN or Inf where asked to look."""
        if self._loaded[:2] != (start, length):
            self._loaded = (start, length, self._filled(start, length, check))
        matrix = self._loaded[2]
        base = matrix[self._n] if self._has_base else None
        return Block(matrix[: self._n], base, start, self._out[:length])

    def _filled(self, start: int, length: int, check: bool) -> Array:
        """(sources, length), the base last: as stored where the stream takes that, else widened."""
        from tunemerge.merge.kernels.convert import count_nonfinite_bf16

        if self._stored:
            raw = self._read(0, (len(self._sources), length), start, None)
            if check and count_nonfinite_bf16(raw):
                self._refuse(0, (raw.astype(np.uint32) << np.uint32(16)).view(np.float32), start)
            return raw
        matrix = self._matrix[: len(self._sources) * length].reshape(-1, length)
        for run, (dtype, first, last) in enumerate(self._runs):
            rows = matrix[first:last]
            raw = self._read(run, rows.shape, start, rows)
            if _widen(dtype, raw, rows, check) and check:
                if dtype == "F16":
                    rows[:] = raw
                self._refuse(first, rows, start)
        return matrix

    def _refuse(self, first: int, rows: Array, start: int) -> None:
        """UsageError where one of the rows of the sources from `first` on has NaN or Inf."""
        for source, row in zip(self._sources[first:], rows, strict=False):
            if not np.isfinite(row).all():
                raise UsageError(_nonfinite(source, start, row))

    def _read(self, run: int, shape: tuple[int, ...], start: int, rows: Array | None) -> Array:
        """What neighbours of one dtype hold, kept from before or read; right into `rows` where nothing widens."""
        dtype, first, _ = self._runs[run]
        raw, known = self._room(run, shape, start) if dtype in self._raw else (rows, False)
        assert raw is not None
        if not known:
            for i in range(len(raw)):
                self._sources[first + i].read_into(raw[i], start)
        return raw

    def _room(self, run: int, shape: tuple[int, ...], start: int) -> tuple[Array, bool]:
        """Where what is stored goes, and whether it is there already."""
        dtype, size = self._runs[run][0], shape[0] * shape[1]
        slot, off = divmod(start, self._block)
        if off or slot >= len(self._kept):
            return self._raw[dtype][:size].reshape(shape), False
        assert self._memory is not None
        at = slot * self._places[-1] + self._places[run]
        raw = self._memory[at : at + size * NUMPY[dtype].itemsize].view(NUMPY[dtype]).reshape(shape)
        known = self._kept[slot, run] == size
        self._kept[slot, run] = size
        return raw, bool(known)


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
