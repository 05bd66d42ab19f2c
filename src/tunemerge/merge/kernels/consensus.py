"""Sparse task vectors added to the base: all that is kept, or only what agrees with the elected sign."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import CHUNK, READ_F64, READ_MASKS, STORED

_SIGNATURES = [
    types.void(rows, base, READ_MASKS, READ_F64, READ_F64, types.boolean, types.float64, out)
    for rows, base, out in STORED
]

_SHORT = 256
"""Elements taken at once where more than one number an element and model is kept meanwhile."""

# Row by row within a chunk, with nothing to branch on: these loops become vector instructions.


@kernel(_SIGNATURES)
def add_agreeing(rows, base, keep, weights, scales, normalize, lam, out):  # type: ignore[no-untyped-def]
    """out = base + lam * sum of weights * scales * kept deltas with the elected sign (/ their weights).

    Values are added in float64, so that a single expert at weight 1 comes out as it went in.

    The vote is decided in float32: ((row - base) * scale) * weight, each product rounded, added in the order
    of the models; a sum >= 0 elects plus. A delta of zero agrees with nobody.
    """
    votes, kept = np.empty(_SHORT, np.float32), np.empty((rows.shape[0], _SHORT), np.float32)
    mixed, shares = np.empty(_SHORT, np.float64), np.empty(_SHORT, np.float64)
    for start in range(0, out.size, _SHORT):
        part, under = out[start : start + _SHORT], base[start : start + _SHORT]
        votes[:] = 0.0
        mixed[:] = 0.0
        shares[:] = 0.0
        for i in range(rows.shape[0]):
            row, stays, own = rows[i, start : start + _SHORT], keep[i, start : start + _SHORT], kept[i]
            scale, weight = np.float32(scales[i]), np.float32(weights[i])
            for j in range(part.size):
                vote = np.float32(np.float32(np.float32(number(row[j]) - number(under[j])) * scale) * weight)
                own[j] = vote if stays[j] else np.float32(0.0)
                votes[j] += own[j]
        for j in range(part.size):
            votes[j] = np.float32(1.0) if votes[j] >= 0 else np.float32(-1.0)
        for i in range(rows.shape[0]):
            row, own = rows[i, start : start + _SHORT], kept[i]
            factor, share = weights[i] * scales[i], weights[i]
            for j in range(part.size):
                agrees = own[j] * votes[j] > 0
                mixed[j] += factor * (np.float64(number(row[j])) - np.float64(number(under[j]))) if agrees else 0.0
                shares[j] += share if agrees else 0.0
        if normalize:
            for j in range(part.size):
                mixed[j] /= shares[j] if shares[j] != 0 else 1.0
        for j in range(part.size):
            part[j] = np.float64(number(under[j])) + lam * mixed[j]


@kernel(_SIGNATURES)
def add_kept(rows, base, keep, weights, scales, normalize, lam, out):  # type: ignore[no-untyped-def]
    """out = base + lam * sum of weights * scales * kept deltas (/ the sum of all weights)."""
    mixed = np.empty(CHUNK, np.float64)
    total = 0.0
    for i in range(rows.shape[0]):
        total += weights[i]
    factor = lam / total if normalize and abs(total) >= 1e-8 else lam
    for start in range(0, out.size, CHUNK):
        part, under = out[start : start + CHUNK], base[start : start + CHUNK]
        mixed[:] = 0.0
        for i in range(rows.shape[0]):
            row, stays = rows[i, start : start + CHUNK], keep[i, start : start + CHUNK]
            weight = weights[i] * scales[i]
            for j in range(part.size):
                mixed[j] += weight * (np.float64(number(row[j])) - np.float64(number(under[j]))) if stays[j] else 0.0
        for j in range(part.size):
            part[j] = np.float64(number(under[j])) + factor * mixed[j]
