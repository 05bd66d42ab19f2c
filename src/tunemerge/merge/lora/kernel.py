"""Adding a stretch of a low-rank product to the weights it belongs to."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import F32, F64, READ_ROWS_F64

_TILE = 512
"""Columns at a time: the rows of the right factor then stay in the nearest cache while all rows of the block pass."""


@kernel(
    [
        types.void(READ_ROWS_F64, READ_ROWS_F64, types.int64, F32),
        types.void(READ_ROWS_F64, READ_ROWS_F64, types.int64, F64),
    ],
)
def add_product(left, right, start, out):  # type: ignore[no-untyped-def]
    """out += the elements from `start` on of left @ right (rows, rank) @ (rank, columns), flattened.

    Every element is summed over the rank in the same order, in float64, whatever stretch it is part of, and rounded
    once: no bit depends on blocks.
    """
    rank, columns = right.shape
    total = np.empty(_TILE, np.float64)
    first, last = start // columns, (start + out.size - 1) // columns
    for tile in range(0, columns, _TILE):
        for row in range(first, last + 1):
            # The first and the last row may be there in part.
            begin = max(tile, start - row * columns)
            end = min(tile + _TILE, columns, start + out.size - row * columns)
            width = end - begin
            if width <= 0:
                continue
            for j in range(width):
                total[j] = 0
            k = 0
            while k + 4 <= rank:
                a, b, c, d = left[row, k], left[row, k + 1], left[row, k + 2], left[row, k + 3]
                ra, rb = right[k, begin:end], right[k + 1, begin:end]
                rc, rd = right[k + 2, begin:end], right[k + 3, begin:end]
                for j in range(width):
                    total[j] = (((total[j] + a * ra[j]) + b * rb[j]) + c * rc[j]) + d * rd[j]
                k += 4
            while k < rank:
                a, ra = left[row, k], right[k, begin:end]
                for j in range(width):
                    total[j] = total[j] + a * ra[j]
                k += 1
            place = out[row * columns + begin - start : row * columns + end - start]
            for j in range(width):
                place[j] = place[j] + total[j]
