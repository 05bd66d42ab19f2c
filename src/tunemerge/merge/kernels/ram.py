"""RAM: how many models have changed an element, and the sum by that."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import CHUNK, I64, READ_F64, WIDTHS


@kernel(
    [types.void(rows, base, types.float64, I64, I64) for rows, base, _ in WIDTHS],
)
def count_shared(rows, base, epsilon, shared, unique):  # type: ignore[no-untyped-def]
    """Add how many elements model i changed by more than epsilon together with others, and alone."""
    changers = np.empty(CHUNK, np.int32)
    limit = np.float32(epsilon)
    for start in range(0, base.size, CHUNK):
        under = base[start : start + CHUNK]
        changers[:] = 0
        for i in range(rows.shape[0]):
            row = rows[i, start : start + CHUNK]
            for j in range(under.size):
                changers[j] += abs(np.float32(row[j] - under[j])) > limit
        for i in range(rows.shape[0]):
            row = rows[i, start : start + CHUNK]
            together, alone = 0, 0
            for j in range(under.size):
                changed = abs(np.float32(row[j] - under[j])) > limit
                together += changed & (changers[j] > 1)
                alone += changed & (changers[j] == 1)
            shared[i] += together
            unique[i] += alone


@kernel(
    [types.void(rows, base, types.float64, READ_F64, out) for rows, base, out in WIDTHS],
    error_model="numpy",  # no check for a divisor of zero, which would keep the loop from being vectorised
)
def add_changed(rows, base, epsilon, factors, out):  # type: ignore[no-untyped-def]
    """out = base + mean of the deltas beyond epsilon where there are several, factors[i] * delta where one is."""
    total, single = np.empty(CHUNK, np.float64), np.empty(CHUNK, np.float64)
    changers = np.empty(CHUNK, np.float64)
    limit = np.float32(epsilon)
    for start in range(0, out.size, CHUNK):
        part, under = out[start : start + CHUNK], base[start : start + CHUNK]
        total[:], single[:], changers[:] = 0.0, 0.0, 0.0
        for i in range(rows.shape[0]):
            row, factor = rows[i, start : start + CHUNK], factors[i]
            for j in range(part.size):
                changed = abs(np.float32(row[j] - under[j])) > limit
                delta = np.float64(row[j]) - np.float64(under[j]) if changed else 0.0
                total[j] += delta
                single[j] += factor * delta
                changers[j] += 1.0 if changed else 0.0
        for j in range(part.size):
            move = single[j] if changers[j] <= 1 else total[j] / changers[j]
            part[j] = np.float64(under[j]) + move
