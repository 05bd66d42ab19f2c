"""Weighted sums, and the dot products that slerp needs. Sums are kept in float64 whatever comes in."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.signatures import F64, READ_F32, READ_F64, READ_ROWS_F32, READ_ROWS_F64

LANES = 8
"""Running sums are kept in this many lanes, by position modulo LANES, so they don't depend on block borders."""


@njit([types.void(READ_ROWS_F32, READ_F64, F64), types.void(READ_ROWS_F64, READ_F64, F64)], cache=True, nogil=True)
def weighted_sum(rows, weights, out):  # type: ignore[no-untyped-def]
    """out = sum over models i of weights[i] * rows[i], models in order."""
    out[:] = 0.0
    for i in range(rows.shape[0]):
        w = weights[i]
        for j in range(rows.shape[1]):
            out[j] += w * np.float64(rows[i, j])


@njit(
    [
        types.void(READ_ROWS_F32, READ_F32, READ_F64, types.float64, F64),
        types.void(READ_ROWS_F64, READ_F64, READ_F64, types.float64, F64),
    ],
    cache=True,
    nogil=True,
)
def add_deltas(rows, base, weights, scale, out):  # type: ignore[no-untyped-def]
    """out = base + scale * sum over models i of weights[i] * (rows[i] - base), models in order."""
    out[:] = 0.0
    for i in range(rows.shape[0]):
        w = weights[i]
        for j in range(rows.shape[1]):
            out[j] += w * (np.float64(rows[i, j]) - np.float64(base[j]))
    for j in range(rows.shape[1]):
        out[j] = np.float64(base[j]) + scale * out[j]


@njit([types.void(READ_F32, READ_F32, F64), types.void(READ_F64, READ_F64, F64)], cache=True, nogil=True)
def add_dot(a, b, lanes):  # type: ignore[no-untyped-def]
    """Add the products a[j] * b[j] to lanes[j % LANES]; blocks must begin at a multiple of LANES."""
    whole = a.size - a.size % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += np.float64(a[start + lane]) * np.float64(b[start + lane])
    for j in range(whole, a.size):
        lanes[j - whole] += np.float64(a[j]) * np.float64(b[j])
