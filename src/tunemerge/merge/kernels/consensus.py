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

# One model's row at a time, with nothing to branch on: these loops become vector instructions.


@njit(cache=True, nogil=True)
def _add_votes(row, base, keep, scale, weight, votes):  # type: ignore[no-untyped-def]
    for j in range(row.size):
        vote = np.float32(np.float32(np.float32(row[j] - base[j]) * scale) * weight)
        votes[j] += vote if keep[j] else np.float32(0.0)


@njit(cache=True, nogil=True)
def _add_agreeing(row, base, keep, scale, weight, share, factor, votes, total, out):  # type: ignore[no-untyped-def]
    for j in range(row.size):
        vote = np.float32(np.float32(np.float32(row[j] - base[j]) * scale) * weight)
        agrees = keep[j] & (((vote > 0) & (votes[j] >= 0)) | ((vote < 0) & (votes[j] < 0)))
        out[j] += factor * (np.float64(row[j]) - np.float64(base[j])) if agrees else 0.0
        total[j] += share if agrees else 0.0


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
        _add_votes(rows[i], base, keep[i], np.float32(scales[i]), np.float32(weights[i]), votes)
    for i in range(rows.shape[0]):
        scale, weight = np.float32(scales[i]), np.float32(weights[i])
        _add_agreeing(rows[i], base, keep[i], scale, weight, weights[i], weights[i] * scales[i], votes, total, out)
    if normalize:
        for j in range(out.size):
            out[j] /= total[j] if total[j] != 0.0 else 1.0
    for j in range(out.size):
        out[j] = np.float64(base[j]) + lam * out[j]
