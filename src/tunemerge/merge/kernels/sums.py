"""Weighted sums and dot products, accumulated in float64 whatever comes in."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import CHUNK, F64, LANE_SUMS, LANES, READ_F64, STORED

# Kernels that get the room they need, in `total` for CHUNK numbers, load without what makes arrays in Numba.


@kernel([types.void(rows, READ_F64, F64, out) for rows, _, out in STORED])
def weighted_sum(rows, weights, total, out):  # type: ignore[no-untyped-def]
    """out = sum over models i of weights[i] * rows[i], models in order."""
    for start in range(0, out.size, CHUNK):
        part = out[start : start + CHUNK]
        total[:] = 0.0
        for i in range(rows.shape[0]):
            row, w = rows[i, start : start + CHUNK], weights[i]
            for j in range(part.size):
                total[j] += w * np.float64(number(row[j]))
        for j in range(part.size):
            part[j] = total[j]


@kernel(
    [types.void(rows, base, READ_F64, types.float64, F64, out) for rows, base, out in STORED],
)
def add_deltas(rows, base, weights, scale, total, out):  # type: ignore[no-untyped-def]
    """out = base + scale * sum over models i of weights[i] * (rows[i] - base), models in order."""
    for start in range(0, out.size, CHUNK):
        part, under = out[start : start + CHUNK], base[start : start + CHUNK]
        total[:] = 0.0
        for i in range(rows.shape[0]):
            row, w = rows[i, start : start + CHUNK], weights[i]
            for j in range(part.size):
                total[j] += w * (np.float64(number(row[j])) - np.float64(number(under[j])))
        for j in range(part.size):
            part[j] = np.float64(number(under[j])) + scale * total[j]


@kernel([types.void(rows, LANE_SUMS) for rows, _, _ in STORED])
def add_gram(rows, lanes):  # type: ignore[no-untyped-def]
    """Add the products of all pairs of rows, (0, 0), (0, 1), ..., (1, 1), ..., each to its lanes.

    `lanes` is (pairs, LANES); blocks begin at a multiple of LANES.
    """
    size = rows.shape[1]
    whole = size - size % LANES
    pair = 0
    for i in range(rows.shape[0]):
        for k in range(i, rows.shape[0]):
            a, b, sums = rows[i], rows[k], lanes[pair]
            for start in range(0, whole, LANES):
                for lane in range(LANES):
                    sums[lane] += np.float64(number(a[start + lane])) * np.float64(number(b[start + lane]))
            for j in range(whole, size):
                sums[j - whole] += np.float64(number(a[j])) * np.float64(number(b[j]))
            pair += 1
