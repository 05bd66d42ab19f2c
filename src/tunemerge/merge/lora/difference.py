"""One tensor in two models, and the difference of the two, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tunemerge.checkpoint.dtypes import NUMPY, Array, to_float32
from tunemerge.checkpoint.source import Source
from tunemerge.errors import UsageError
from tunemerge.merge.lora.spectrum import Approximation, approximate

_PIECE = 1 << 21


def differs(model: Source, base: Source, size: int) -> bool:
    """Whether any of the `size` values differs; NaN or Inf in either is refused (UsageError)."""
    return any(bool((model_ != base_).any()) for model_, base_ in _pairs(model, base, size, _PIECE))


@dataclass(frozen=True)
class Difference:
    """model - base of a matrix `shape` (rows, columns), exact in float64."""

    model: Source
    base: Source
    shape: tuple[int, int]

    def approximate(self, most: int, energy: float | None, device: str) -> Approximation:
        """See spectrum.approximate; `left` and `right` multiply to the matrix as it is stored."""
        rows, columns = self.shape
        if rows >= columns:
            return approximate(self._rows, columns, most, energy, device)
        ((model, base),) = _pairs(self.model, self.base, rows * columns, rows * columns)
        model, base = model.reshape(self.shape), base.reshape(self.shape)

        def turned() -> Iterator[Array]:
            for start in range(0, columns, step := max(1, _PIECE // rows)):
                piece = slice(start, start + step)
                yield np.subtract(model[:, piece].T, base[:, piece].T, dtype=np.float64)

        found = approximate(turned, rows, most, energy, device)
        return Approximation(found.right.T, found.left.T, found.energy, found.norm)

    def _rows(self) -> Iterator[Array]:
        rows, columns = self.shape
        for model, base in _pairs(self.model, self.base, rows * columns, max(1, _PIECE // columns) * columns):
            yield np.subtract(model, base, dtype=np.float64).reshape(-1, columns)


def _pairs(model: Source, base: Source, size: int, piece: int) -> Iterator[tuple[Array, Array]]:
    for start in range(0, size, max(piece, 1)):
        length = min(piece, size - start)
        yield _read(model, start, length), _read(base, start, length)


def _read(source: Source, start: int, length: int) -> Array:
    raw = np.empty(length, NUMPY[source.dtype])
    source.read_into(raw, start)
    values = raw if source.dtype not in ("F16", "BF16") else to_float32(raw, source.dtype)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = start + int(np.flatnonzero(~np.isfinite(values))[0])
        raise UsageError(f"{source.where}: NaN or Inf at element {place:,}; weights must be finite")
    return values
