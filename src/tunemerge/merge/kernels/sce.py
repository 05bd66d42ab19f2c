"""SCE: the variance of the task vectors an element, their squares, and the sum of what has the elected sign."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import (
    CHUNK,
    F32,
    F64,
    I64,
    LANE_SUMS,
    LANES,
    READ_F64,
    READ_ROWS_F64,
    READ_U32,
    STORED,
)

_SHORT = 256  # of float64: buffers of CHUNK of them would not all stay in the nearest cache
_U32 = types.uint32[::1]
READ_MASK = types.Array(types.boolean, 1, "C", readonly=True)


@kernel([types.void(rows, base, F32) for rows, base, _ in STORED])
def variances(rows, base, out):  # type: ignore[no-untyped-def]
    """The population variance over models of float32 deltas, rounded once to float32.

    Sums of differences from the first delta, in float64: little cancels, and equal deltas have variance 0.
    """
    total, squares = np.empty(_SHORT, np.float64), np.empty(_SHORT, np.float64)
    share = 1.0 / rows.shape[0]
    for start in range(0, base.size, _SHORT):
        under, part = base[start : start + _SHORT], out[start : start + _SHORT]
        first = rows[0, start : start + _SHORT]
        total[:] = 0.0
        squares[:] = 0.0
        for i in range(1, rows.shape[0]):
            row = rows[i, start : start + _SHORT]
            for j in range(under.size):
                off = np.float64(np.float32(number(row[j]) - number(under[j]))) - np.float64(
                    np.float32(number(first[j]) - number(under[j]))
                )
                total[j] += off
                squares[j] += off * off
        for j in range(under.size):
            part[j] = np.float32((squares[j] - total[j] * total[j] * share) * share)


@njit(inline="always")
def _places(flags, words, hot, places):  # type: ignore[no-untyped-def]
    """Fill `places` with where flags are set; returns how many. `words` is the flags' uint64 view, `hot` is scratch."""
    some, found = 0, 0
    for w in range(words.size):
        hot[some] = w
        some += words[w] != 0
    for q in range(some):
        first = hot[q] * 8
        for j in range(8):
            places[found] = first + j
            found += flags[first + j]
    return found


@kernel(
    [
        types.void(rows, base, F32, types.uint32, types.uint32, I64, _U32, LANE_SUMS, LANE_SUMS)
        for rows, base, _ in STORED
    ],
)
def survey(rows, base, variance, first, width, counted, near, squares, lanes):  # type: ignore[no-untyped-def]
    """From `variance` and one window [first, first + width) of its bits, all that has to be known of a block.

    Adds to `counted` how many variances are not 0, are above the window, are within. Those within are appended to
    `near`, and the squares of the models' deltas there to `squares` (models, as near): without loss as long as CHUNK
    places are left. The squares above the window are added to lanes[i]; blocks begin at a multiple of LANES.
    """
    bits = variance.view(np.uint32)
    flags, hot, places = np.empty(CHUNK, np.uint8), np.empty(CHUNK // 8 + 1, np.int64), np.empty(CHUNK + 1, np.int64)
    words = flags.view(np.uint64)
    for start in range(0, base.size, CHUNK):
        under, part = base[start : start + CHUNK], bits[start : start + CHUNK]
        moved, above, within = 0, 0, 0
        flags[part.size :] = 0
        for j in range(part.size):
            moved += part[j] != 0
            above += part[j] >= first + width
            flags[j] = part[j] - first < width
            within += flags[j]
        counted[0] += moved
        counted[1] += above
        whole = part.size - part.size % LANES
        for i in range(rows.shape[0]):
            row, sums = rows[i, start : start + CHUNK], lanes[i]
            for at in range(0, whole, LANES):
                for lane in range(LANES):
                    x = np.float64(number(row[at + lane])) - np.float64(number(under[at + lane]))
                    sums[lane] += x * x if part[at + lane] >= first + width else 0.0
            for j in range(whole, part.size):
                x = np.float64(number(row[j])) - np.float64(number(under[j]))
                sums[j - whole] += x * x if part[j] >= first + width else 0.0
        place = counted[2]
        if place + CHUNK <= near.size:
            found = _places(flags, words, hot, places)
            for q in range(found):
                near[place + q] = part[places[q]]
            for i in range(rows.shape[0]):
                row, own = rows[i, start : start + CHUNK], squares[i]
                for q in range(found):
                    x = np.float64(number(row[places[q]])) - np.float64(number(under[places[q]]))
                    own[place + q] = x * x
        counted[2] += within


@kernel(types.void(READ_U32, READ_ROWS_F64, types.uint32, types.int64, F64))
def add_near(near, squares, threshold, spare, sums):  # type: ignore[no-untyped-def]
    """Add to sums[i] the squares of what is above the threshold, and of the first `spare` of what is equal to it."""
    for i in range(squares.shape[0]):
        own, left, total = squares[i], spare, 0.0
        for q in range(near.size):
            equal = near[q] == threshold and left > 0
            left -= equal
            total += own[q] if near[q] > threshold or equal else 0.0
        sums[i] += total


@kernel([types.void(rows, base, READ_MASK, LANE_SUMS) for rows, base, _ in STORED])
def add_squares(rows, base, keep, lanes):  # type: ignore[no-untyped-def]
    """Add the squares of model i's kept deltas to lanes[i]; blocks begin at a multiple of LANES."""
    size = base.size
    whole = size - size % LANES
    for i in range(rows.shape[0]):
        row, sums = rows[i], lanes[i]
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                x = np.float64(number(row[start + lane])) - np.float64(number(base[start + lane]))
                sums[lane] += x * x if keep[start + lane] else 0.0
        for j in range(whole, size):
            x = np.float64(number(row[j])) - np.float64(number(base[j]))
            sums[j - whole] += x * x if keep[j] else 0.0


@kernel(
    [types.void(rows, base, READ_MASK, READ_F64, types.float64, out) for rows, base, out in STORED],
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
                votes[j] += np.float32(number(row[j]) - number(under[j]))
        for j in range(part.size):
            elected = np.float32(1.0) if votes[j] >= 0 else np.float32(-1.0)
            votes[j] = elected if stays[j] else np.float32(0.0)
        for i in range(rows.shape[0]):
            row, weight = rows[i, start : start + _SHORT], weights[i]
            for j in range(part.size):
                agrees = np.float32(number(row[j]) - number(under[j])) * votes[j] > 0
                mixed[j] += weight * (np.float64(number(row[j])) - np.float64(number(under[j]))) if agrees else 0.0
                shares[j] += weight if agrees else 0.0
        for j in range(part.size):
            part[j] = np.float64(number(under[j])) + mixed[j] / (shares[j] if shares[j] > least else least)
