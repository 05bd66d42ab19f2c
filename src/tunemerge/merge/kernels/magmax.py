"""MagMax: the delta of largest magnitude, element by element."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import CHUNK, WIDTHS


@kernel([types.void(rows, base, types.float64, out) for rows, base, out in WIDTHS])
def add_largest(rows, base, scale, out):  # type: ignore[no-untyped-def]
    """out = base + scale * the delta of largest magnitude; of two opposite ones the positive. In any order the same."""
    top = np.empty(CHUNK, np.float64)
    for start in range(0, out.size, CHUNK):
        part, under = out[start : start + CHUNK], base[start : start + CHUNK]
        top[:] = 0.0
        for i in range(rows.shape[0]):
            row = rows[i, start : start + CHUNK]
            for j in range(part.size):
                delta, best = np.float64(row[j]) - np.float64(under[j]), top[j]
                wins = (abs(delta) > abs(best)) | ((abs(delta) == abs(best)) & (delta > best))
                top[j] = delta if wins else best
        for j in range(part.size):
            part[j] = np.float64(under[j]) + scale * top[j]
