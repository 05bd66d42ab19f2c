"""SCE: the variance of the task vectors an element, their squares, and the sum of what has the elected sign."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.signatures import CHUNK, F32, LANE_SUMS, LANES, READ_F64, WIDTHS

_SHORT = 256
READ_MASK = types.Array(types.boolean, 1, "C", readonly=True)


@njit([types.void(rows, base, F32) for rows, base, _ in WIDTHS], cache=True, nogil=True)
def variances(rows, base, out):  # type: ignore[no-untyped-def]
    """The population variance over models of float32 deltas, rounded once to float32.

    Sums of differences from the first delta, in float64: little cancels, and equal deltas have variance 0.
    """
    total, squares = np.empty(CHUNK, np.float64), np.empty(CHUNK, np.float64)
    share = 1.0 / rows.shape[0]
    for start in range(0, base.size, CHUNK):
        under, part = base[start : start + CHUNK], out[start : start + CHUNK]
        first = rows[0, start : start + CHUNK]
        total[:] = 0.0
        squares[:] = 0.0
        for i in range(1, rows.shape[0]):
            row = rows[i, start : start + CHUNK]
            for j in range(under.size):
                off = np.float64(np.float32(row[j] - under[j])) - np.float64(np.float32(first[j] - under[j]))
                total[j] += off
                squares[j] += off * off
        for j in range(under.size):
            part[j] = np.float32((squares[j] - total[j] * total[j] * share) * share)


@njit([types.void(rows, base, READ_MASK, LANE_SUMS) for rows, base, _ in WIDTHS], cache=True, nogil=True)
def add_squares(rows, base, keep, lanes):  # type: ignore[no-untyped-def]
    """Add the squares of model i's kept deltas to lanes[i]; blocks begin at a multiple of LANES."""
    size = base.size
    whole = size - size % LANES
    for i in range(rows.shape[0]):
        row, sums = rows[i], lanes[i]
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                x = np.float64(row[start + lane]) - np.float64(base[start + lane])
                sums[lane] += x * x if keep[start + lane] else 0.0
        for j in range(whole, size):
            x = np.float64(row[j]) - np.float64(base[j])
            sums[j - whole] += x * x if keep[j] else 0.0


@njit(
    [types.void(rows, base, READ_MASK, READ_F64, types.float64, out) for rows, base, out in WIDTHS],
    cache=True,
    nogil=True,
    error_model="numpy",  # no check for a divisor of zero, which would keep the loop from being vectorised
)
def add_elected(rows, base, keep, weights, least, out):  # type: ignore[no-untyped-def]
    """out = base + weighted mean of kept deltas with the elected sign; divisors below `least` count as that.

    The vote is the float32 sum of the deltas in the order of the models; a sum >= 0 elects plus.
    """
    votes = np.empty(_SHORT, np.float32)
    mixed, shares = np.empty(_SHORT, np.float64), np.empty(_SHORT, np.float64)
    for start in range(0, out.size, _SHORT):
        part, under = out[start : start + _SHORT], base[start : start + _SHORT]
        stays = keep[start : start + _SHORT]
        votes[:] = 0.0
        mixed[:] = 0.0
        shares[:] = 0.0
        for i in range(rows.shape[0]):
            row = rows[i, start : start + _SHORT]
            for j in range(part.size):
                votes[j] += np.float32(row[j] - under[j])
        for j in range(part.size):
            elected = np.float32(1.0) if votes[j] >= 0 else np.float32(-1.0)
            votes[j] = elected if stays[j] else np.float32(0.0)
        for i in range(rows.shape[0]):
            row, weight = rows[i, start : start + _SHORT], weights[i]
            for j in range(part.size):
                agrees = np.float32(row[j] - under[j]) * votes[j] > 0
                mixed[j] += weight * (np.float64(row[j]) - np.float64(under[j])) if agrees else 0.0
                shares[j] += weight if agrees else 0.0
        for j in range(part.size):
            part[j] = np.float64(under[j]) + mixed[j] / (shares[j] if shares[j] > least else least)
