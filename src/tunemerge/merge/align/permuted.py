"""A model seen through permutations of its axes: a view that reads the model's own tensors, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.source import Model, Source
from tunemerge.merge.align.orders import Index, Orders

_SHORT = 256
"""Runs of fewer elements are not read one by one: the whole row that they are part of is read and reordered."""


@dataclass(frozen=True)
class PermutedModel:
    """`model` with axes reordered: element i along axis a of tensor t is element orders[t, a][i] of the model's.

    Values are moved, never changed, whatever the dtype. Sources may be read from several threads.
    """

    model: Model
    orders: Orders

    @property
    def label(self) -> str:
        return self.model.label

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {name: TensorInfo(info.dtype, info.shape, 0, 0) for name, info in self.model.tensors.items()}

    def source(self, name: str) -> Source:
        source, shape = self.model.source(name), self.model.tensors[name].shape
        axes = [self.orders.get((name, axis)) for axis in range(len(shape))]
        axes = [None if order is None or _in_order(order) else order for order in axes]
        if all(order is None for order in axes):
            return source
        return PermutedSource(source, shape, tuple(axes))


@dataclass(frozen=True)
class PermutedSource:
    """One tensor of `shape` with at least one axis reordered. Memory: a block, or one row (see `_SHORT`)."""

    inner: Source
    shape: tuple[int, ...]
    axes: tuple[Index | None, ...]

    @property
    def dtype(self) -> str:
        return self.inner.dtype

    @property
    def where(self) -> str:
        return self.inner.where

    @cached_property
    def _last(self) -> int:
        """The last axis that is reordered."""
        return max(i for i, order in enumerate(self.axes) if order is not None)

    @cached_property
    def _run(self) -> int:
        """Elements that stay together: all axes after the last reordered one."""
        return math.prod(self.shape[self._last + 1 :])

    def read_into(self, buffer: Array, start: int) -> None:
        if self._run >= _SHORT:
            self._read_runs(buffer, start, self._last + 1, self._run)
        else:
            self._read_rows(buffer, start)

    def _read_runs(self, buffer: Array, start: int, depth: int, size: int) -> None:
        """Runs of `size` elements, one for each index of the first `depth` axes; neighbours are read at once."""
        first, last = start // size, -(-(start + buffer.size) // size)
        rows = self._rows(np.arange(first, last, dtype=np.int64), depth)
        begins = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        ends = np.append(begins[1:], rows.size)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            low = max(start, (first + begin) * size)
            high = min(start + buffer.size, (first + end) * size)
            skipped = low - (first + begin) * size
            self.inner.read_into(buffer[low - start : high - start], int(rows[begin]) * size + skipped)

    def _read_rows(self, buffer: Array, start: int) -> None:
        """Whole rows along the last reordered axis, reordered after reading; as many at once as fit a block."""
        order = self.axes[self._last]
        assert order is not None
        size = self.shape[self._last] * self._run
        first, last = start // size, -(-(start + buffer.size) // size)
        at_once = max(1, buffer.size // size)
        for low in range(first, last, at_once):
            count = min(at_once, last - low)
            raw = np.empty(count * size, NUMPY[self.dtype])
            self._read_runs(raw, low * size, self._last, size)
            ready = raw.reshape(count, order.size, self._run).take(order, axis=1).reshape(-1)
            begin, end = max(start, low * size), min(start + buffer.size, (low + count) * size)
            buffer[begin - start : end - start] = ready[begin - low * size : end - low * size]

    def _rows(self, rows: Index, depth: int) -> Index:
        """The model's own flat index over the first `depth` axes of the given ones."""
        out = np.zeros_like(rows)
        step = 1
        for size, order in zip(self.shape[:depth][::-1], self.axes[:depth][::-1], strict=True):
            rows, index = np.divmod(rows, size)
            out += step * (index if order is None else order[index])
            step *= size
        return out


def _in_order(order: Index) -> bool:
    return bool((order == np.arange(order.size)).all())
