"""Weighted sums of the models whose weights depend on nothing but their lengths and the angles between them.

That is most of geometry: interpolation along arcs, means on spheres, distances between planes. All of it is in the
Gram matrix, the dot products of all pairs of models (of their differences from the base, where there is one). So a
method says how the weights follow from the matrix, and one of these streams does the rest: for whole tensors, for
their rows, or for their columns. Gram matrices and sums don't depend on the order of the models, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.merge.method import Block, Single, Tensor, Unit

Floats = NDArray[np.float64]
WeightsOf = Callable[[Floats], Floats]
"""From (vectors, models, models), one Gram matrix a vector, to (vectors, models), what each model's is taken with."""


class WholeSpan:
    """The tensor is one vector: one pass for its Gram matrix."""

    passes = 1
    unit: Unit = "element"
    takes_bf16 = True

    def __init__(self, tensor: Tensor, weights_of: WeightsOf) -> None:
        from tunemerge.merge.kernels.signatures import LANES

        self._n, self._weights_of = tensor.n_models, weights_of
        self._lanes = np.zeros((self._n * (self._n + 1) // 2, LANES))
        self._weights = np.zeros((1, self._n))
        self._origin = _Origin()

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.span import add_grams

        add_grams(block.rows, self._origin.of(block), self._lanes)

    def finish(self, index: int) -> None:
        self._weights[:] = self._weights_of(_square(self._lanes.sum(axis=1)[None], self._n))

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.span import add_rows

        add_rows(block.rows, self._origin.of(block), block.out.size, self._weights, block.out)


class RowSpan(Single):
    """Every row is a vector: all in one pass."""

    unit: Unit = "row"
    takes_bf16 = True

    def __init__(self, tensor: Tensor, weights_of: WeightsOf) -> None:
        self._n, self._columns, self._weights_of = tensor.n_models, tensor.columns, weights_of
        self._origin = _Origin()

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.span import add_rows, row_grams

        origin = self._origin.of(block)
        pairs = np.empty((block.out.size // self._columns, self._n * (self._n + 1) // 2))
        row_grams(block.rows, origin, self._columns, pairs)
        add_rows(block.rows, origin, self._columns, self._weights_of(_square(pairs, self._n)), block.out)


class ColumnSpan:
    """Every line of numbers along the first dimension is a vector: one pass. Holds n (n + 1) / 2 sums a column."""

    passes = 1
    unit: Unit = "element"
    takes_bf16 = True

    def __init__(self, tensor: Tensor, weights_of: WeightsOf) -> None:
        n, columns = tensor.n_models, tensor.size // tensor.shape[0] if tensor.size else 1
        self._n, self._weights_of = n, weights_of
        self._pairs = np.zeros((n * (n + 1) // 2, columns))
        self._weights = np.zeros((n, columns))
        self._origin = _Origin()

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.span import add_column_grams

        add_column_grams(block.rows, self._origin.of(block), block.start, self._pairs)

    def finish(self, index: int) -> None:
        self._weights[:] = self._weights_of(_square(self._pairs.T, self._n)).T

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.span import add_columns

        add_columns(block.rows, self._origin.of(block), block.start, self._weights, block.out)


class _Origin:
    """What differences are taken from: the base, or zeros where there is none."""

    def __init__(self) -> None:
        self._zeros: NDArray[Any] = np.zeros(0, np.float32)

    def of(self, block: Block) -> NDArray[Any]:
        if block.base is not None:
            return block.base
        if self._zeros.size < block.out.size or self._zeros.dtype != block.rows.dtype:
            self._zeros = np.zeros(block.out.size, block.rows.dtype)
        return self._zeros[: block.out.size]


def _square(pairs: Floats, n: int) -> Floats:
    """Symmetric matrices (vectors, n, n) from their upper halves (vectors, pairs)."""
    grams = np.empty((len(pairs), n, n))
    rows, columns = np.triu_indices(n)
    grams[:, rows, columns] = pairs
    grams[:, columns, rows] = pairs
    return grams


def cosines(grams: Floats) -> Floats:
    """Of all pairs, within [-1, 1]; 0 where a vector has no length, for it has no direction."""
    lengths = np.sqrt(np.diagonal(grams, axis1=1, axis2=2))
    products = lengths[:, :, None] * lengths[:, None, :]
    return np.clip(grams / np.where(products > 0, products, 1.0), -1.0, 1.0)
