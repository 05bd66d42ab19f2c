"""Sign election and the mean of those who agree, in one pass over a block."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.signatures import (
    F32,
    F64,
    READ_F32,
    READ_F64,
    READ_MASKS,
    READ_ROWS_F32,
    READ_ROWS_F64,
)


@njit(
    [
        types.void(
            READ_ROWS_F32, READ_F32, READ_MASKS, READ_F64, READ_F64, types.boolean, types.float64, F32, F64, F64
        ),
        types.void(
            READ_ROWS_F64, READ_F64, READ_MASKS, READ_F64, READ_F64, types.boolean, types.float64, F32, F64, F64
        ),
    ],
    cache=True,
    nogil=True,
)
def merge_agreeing(rows, base, keep, weights, scales, normalize, lam, votes, total, out):  # type: ignore[no-untyped-def]
    """out = base + lam * sum of weights * scales * kept deltas with the elected sign (/ their weights).

    The vote is decided in float32: ((row - base) * scale) * weight, each product rounded, added in the order
    of the models; a sum >= 0 elects plus. A delta of zero agrees with nobody. Values are added in float64.
    `votes` and `total` are scratch of the block's length.
    """
    votes[:] = np.float32(0.0)
    total[:] = 0.0
    out[:] = 0.0
    for i in range(rows.shape[0]):
        w, s = np.float32(weights[i]), np.float32(scales[i])
        for j in range(rows.shape[1]):
            vote = np.float32(np.float32(np.float32(rows[i, j] - base[j]) * s) * w)
            votes[j] += vote if keep[i, j] else np.float32(0.0)
    for i in range(rows.shape[0]):
        w, s = np.float32(weights[i]), np.float32(scales[i])
        weight, factor = weights[i], weights[i] * scales[i]
        for j in range(rows.shape[1]):
            vote = np.float32(np.float32(np.float32(rows[i, j] - base[j]) * s) * w)
            agrees = keep[i, j] and (vote > 0 if votes[j] >= 0 else vote < 0)
            out[j] += factor * (np.float64(rows[i, j]) - np.float64(base[j])) if agrees else 0.0
            total[j] += weight if agrees else 0.0
    for j in range(rows.shape[1]):
        divisor = total[j] if normalize and total[j] != 0.0 else 1.0
        out[j] = np.float64(base[j]) + lam * (out[j] / divisor)
