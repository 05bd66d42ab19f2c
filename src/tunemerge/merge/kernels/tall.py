"""TALL masks: how many task vectors find an element of their sum useful, and the sum where enough do."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import CHUNK, READ_F64, WIDTHS


@kernel(
    [types.void(rows, base, types.float64, types.int64, READ_F64, types.float64, out) for rows, base, out in WIDTHS],
)
def add_useful(rows, base, tall, least, weights, scale, out):  # type: ignore[no-untyped-def]
    """out = base + scale * sum of weights * deltas where |delta| >= tall * |sum of deltas - delta| in `least` models.

    Decided in float32: every difference, the sum in the order of the models and the product are rounded once.
    """
    total, votes = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.int32)
    mixed = np.empty(CHUNK, np.float64)
    limit = np.float32(tall)
    for start in range(0, out.size, CHUNK):
        part, under = out[start : start + CHUNK], base[start : start + CHUNK]
        total[:] = 0.0
        votes[:] = 0
        mixed[:] = 0.0
        for i in range(rows.shape[0]):
            row = rows[i, start : start + CHUNK]
            for j in range(part.size):
                total[j] += np.float32(row[j] - under[j])
        for i in range(rows.shape[0]):
            row, weight = rows[i, start : start + CHUNK], weights[i]
            for j in range(part.size):
                delta = np.float32(row[j] - under[j])
                others = np.float32(total[j] - delta)
                votes[j] += abs(delta) >= np.float32(limit * abs(others))
                mixed[j] += weight * (np.float64(row[j]) - np.float64(under[j]))
        for j in range(part.size):
            part[j] = np.float64(under[j]) + (scale * mixed[j] if votes[j] >= least else 0.0)
