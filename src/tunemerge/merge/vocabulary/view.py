"""A model seen through a common vocabulary: its embeddings have the output's rows, read piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, Array, from_float32
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.source import Model, Source
from tunemerge.merge.vocabulary.gather import as_float64, convert, read_rows
from tunemerge.merge.vocabulary.rows import MEAN, PADDING, ZERO, Ints

_CHUNK = 2**17
"""Elements a piece of the pass that takes the mean of all rows: fixed, so that the mean is the same for any block."""


class RemappedModel:
    """A view of `model` in which the tensors in `sources` have other rows; the others are those of `model`.

    `tensors` has the new shapes from `infos`, and the format where a row from another model needs a wider one.
    """

    def __init__(self, model: Model, infos: Mapping[str, TensorInfo], sources: Mapping[str, RemappedSource]) -> None:
        self.model, self._sources = model, sources
        self.tensors: Mapping[str, TensorInfo] = {**model.tensors, **infos}

    @property
    def label(self) -> str:
        return self.model.label

    def source(self, name: str) -> Source:
        return self._sources[name] if name in self._sources else self.model.source(name)


@dataclass(frozen=True)
class RemappedSource:
    """One tensor of one model with the rows of the output, `width` elements each, in the format `dtype`.

    Output row i is row `row[i]` of the model numbered `donor[i]` (see `rows.choose`). `opened` gives a model's
    source of this tensor; `maps` (n, rows) is each model's own row of it, or -1, for means. Reads any piece from any
    thread; holds no more than about the piece that is asked for.
    """

    opened: Sequence[Callable[[], Source] | None]
    donor: NDArray[np.int16]
    row: Ints
    maps: Ints
    width: int
    dtype: str
    where: str
    _padding: list[Array] = field(default_factory=list, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def read_into(self, buffer: Array, start: int) -> None:
        """Fill `buffer` with the elements from `start` on. Rows that it covers in part are read whole."""
        if buffer.size == 0:
            return
        row, offset = divmod(start, self.width)
        head = min(-start % self.width, buffer.size)
        if head:
            buffer[:head] = self._rows(row, row + 1)[0, offset : offset + head]
            row += 1
        whole = (buffer.size - head) // self.width
        end = head + whole * self.width
        if whole:
            self._fill(buffer[head:end].reshape(whole, self.width), row, row + whole)
        if end < buffer.size:
            buffer[end:] = self._rows(row + whole, row + whole + 1)[0, : buffer.size - end]

    def _rows(self, begin: int, end: int) -> Array:
        out = np.empty((end - begin, self.width), NUMPY[self.dtype])
        self._fill(out, begin, end)
        return out

    def _fill(self, out: Array, begin: int, end: int, padding: bool = True) -> None:
        """Rows `begin` to `end` into `out`; without `padding` those rows stay as they are."""
        donors = self.donor[begin:end]
        for donor in np.unique(donors):
            places = np.flatnonzero(donors == donor)
            if donor == ZERO:
                out[places] = 0
            elif donor == MEAN:
                out[places] = self._mean(begin + places)
            elif donor != PADDING:
                self._copy(int(donor), self.row[begin + places], places, out)
            elif padding:
                out[places] = self._padding_row()

    def _copy(self, donor: int, rows: Ints, places: Ints, out: Array) -> None:
        source = self._open(donor)
        if places.size == out.shape[0] and source.dtype == self.dtype:
            read_rows(source, self.width, rows, out)
            return
        values = np.empty((rows.size, self.width), NUMPY[source.dtype])
        read_rows(source, self.width, rows, values)
        out[places] = convert(values, source.dtype, self.dtype)

    def _mean(self, rows: Ints) -> Array:
        """The mean of the owners' rows, summed in float64 in the order of the models."""
        total = np.zeros((rows.size, self.width))
        for donor, own in enumerate(self.maps[:, rows]):
            (have,) = np.nonzero(own >= 0)
            if have.size:
                source = self._open(donor)
                values = np.empty((have.size, self.width), NUMPY[source.dtype])
                read_rows(source, self.width, own[have], values)
                total[have] += as_float64(values, source.dtype)
        return self._rounded(total / (self.maps[:, rows] >= 0).sum(0)[:, None])

    def _padding_row(self) -> Array:
        """(width,): the mean of all rows that are no padding; computed at the first call."""
        with self._lock:
            if not self._padding:
                total, step = np.zeros(self.width), max(1, _CHUNK // self.width)
                for begin in range(0, self.donor.size, step):
                    end = min(begin + step, self.donor.size)
                    piece = np.zeros((end - begin, self.width), NUMPY[self.dtype])
                    self._fill(piece, begin, end, padding=False)
                    total += as_float64(piece, self.dtype).sum(0)
                count = max(1, int((self.donor != PADDING).sum()))
                self._padding.append(self._rounded(total[None] / count)[0])
        return self._padding[0]

    def _rounded(self, values: NDArray[np.float64]) -> Array:
        return values if self.dtype == "F64" else from_float32(values.astype(np.float32), self.dtype)

    def _open(self, donor: int) -> Source:
        opened = self.opened[donor]
        assert opened is not None, f"{self.where}: model {donor} has no such tensor"
        return opened()
