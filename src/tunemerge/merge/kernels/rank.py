"""Which elements of a task vector stay when the probability to stay depends on the rank within the row (DELLA).

Nothing is sorted. A draw decides alone where it is below the limit of the lowest rank or not below that of the highest;
else with the rank's bin, unless it falls between the limits of the first and the last rank of that bin, of which few
elements share one: only then are the smaller ones counted.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.select import magnitudes, scramble
from tunemerge.merge.kernels.signatures import MASKS, READ_ROWS_F64, READ_U64, STORED

_WINDOW = 27
"""Bits of the range that is divided into bins: 16 octaves below the largest magnitude. The rest share the lowest."""
_SHORT = 32
"""Rows up to this length are not worth a count by bins."""
_FEW = 200
"""So many elements of a row are looked up one by one; where there are more, sorting is quicker."""
_STRETCH = 256
"""Counts within so few elements are kept in 32 bits: a vector holds more of those."""
_DIGIT = 11
_TURNS = 3


@njit(inline="always")
def _limit(low, step, rank):  # type: ignore[no-untyped-def]
    """A 32-bit draw below this keeps the element of that rank."""
    return np.uint32(min(np.ceil((low + step * rank) * 4294967296.0), 4294967295.0))


@njit
def rank_all(bits, order, spare, ranks):  # type: ignore[no-untyped-def]
    """The rank of each number, equal ones by position: a stable sort by digits, the lowest first."""
    counts = np.empty(1 << _DIGIT, np.int64)
    for j in range(bits.size):
        order[j] = j
    for turn in range(_TURNS):
        shift = np.uint32(turn * _DIGIT)
        counts[:] = 0
        for j in range(bits.size):
            counts[(bits[j] >> shift) & np.uint32((1 << _DIGIT) - 1)] += 1
        below = 0
        for b in range(counts.size):
            count = counts[b]
            counts[b] = below
            below += count
        for q in range(bits.size):
            digit = (bits[order[q]] >> shift) & np.uint32((1 << _DIGIT) - 1)
            spare[counts[digit]] = order[q]
            counts[digit] += 1
        order, spare = spare, order
    for q in range(bits.size):
        ranks[order[q]] = q


@njit(inline="always")
def _rank(bits, j):  # type: ignore[no-untyped-def]
    """How many elements come before element j."""
    mine, rank = bits[j], 0
    for start in range(0, bits.size, _STRETCH):
        part, few, equal = bits[start : start + _STRETCH], np.uint32(0), np.uint32(0)
        for q in range(part.size):
            few = np.uint32(few + np.uint32(part[q] < mine))
        if start < j:
            before = part[: j - start]
            for q in range(before.size):
                equal = np.uint32(equal + np.uint32(before[q] == mine))
        rank += few + equal  # type: ignore[assignment]
    return rank


@njit(inline="always")
def _undecided(draws, least, most, stays, flags, places):  # type: ignore[no-untyped-def]
    """Decide what no rank would change; the places of all others are put into `places`, whose count is returned.

    Both halves of the row are gone through side by side, for each store waits for the one before.
    """
    half = draws.size // 2
    first, second = np.uint64(0), np.uint64(half)
    for j in range(draws.size):
        stays[j] = draws[j] < least
        flags[j] = draws[j] - least < most - least
    for j in range(half):
        places[first] = j
        first += flags[j]
        places[second] = half + j
        second += flags[half + j]
    if draws.size % 2:
        places[second] = draws.size - 1
        second += flags[draws.size - 1]
    found = np.int64(first)
    for q in range(half, np.int64(second)):
        places[found] = places[q]
        found += 1
    return found


@njit(inline="always")
def _decide(bits, draws, low, step, shift, bins, counts, limits, flags, stays, places):  # type: ignore[no-untyped-def]
    """Decide what the bins are enough for; returns how many elements of `places` are left, which come first there."""
    size, top = bits.size, np.uint32(0)
    for j in range(size):
        top = max(top, bits[j])
    floor = top - min(top, np.uint32((1 << _WINDOW) - 1))
    for j in range(size):
        bins[j] = (max(bits[j], floor) - floor) >> shift
    counts[:] = 0
    for j in range(size):
        counts[bins[j]] += 1
    below = 0
    for b in range(counts.size):
        count = counts[b]
        counts[b] = below
        below += count
    for b in range(counts.size):
        limits[b] = _limit(low, step, counts[b])
    left = 0
    for q in range(_undecided(draws, _limit(low, step, 0), _limit(low, step, size - 1), stays, flags, places)):
        j = places[q]
        b = bins[j]
        stays[j] = draws[j] < limits[b]
        places[left] = j
        left += (draws[j] >= limits[b]) & (draws[j] < limits[b + 1]) & (bits[j] != 0)
    return left


@kernel(
    [types.void(rows, base, types.int64, types.int64, READ_ROWS_F64, READ_U64, MASKS) for rows, base, _ in STORED],
)
def mask_by_rank(rows, base, start, columns, ranges, keys, keep):  # type: ignore[no-untyped-def]
    """Keep element j of a row with probability ranges[i, 0] + ranges[i, 1] * its rank / (columns - 1).

    The block holds whole rows of `columns` > 1, from position `start` on; draws are those of `mask_random`. An
    element that has not moved may be dropped whatever its draw: it adds nothing.
    """
    shift = np.uint32(15 if columns > 16384 else 17 if columns > 2048 else 19)
    n_bins = 1 << (_WINDOW - shift)
    floats = np.empty(columns, np.float32)
    bits = floats.view(np.uint32)
    pairs = np.empty(columns // 2 + 1, np.uint64)
    bins, flags, places = np.empty(columns, np.uint16), np.empty(columns, np.uint8), np.empty(columns + 1, np.int32)
    counts, limits = np.empty(n_bins + 1, np.int32), np.empty(n_bins + 1, np.uint32)
    ranks, order, spare = np.empty(columns, np.int64), np.empty(columns, np.int64), np.empty(columns, np.int64)
    for at in range(0, base.size, columns):
        under = base[at : at + columns]
        first = np.uint64(start + at)
        draws = pairs.view(np.uint32)[(start + at) % 2 :][:columns]
        for i in range(rows.shape[0]):
            stays = keep[i, at : at + columns]
            low, span = ranges[i, 0], ranges[i, 1]
            if low >= 1.0 or low + span <= 0.0:
                stays[:] = low >= 1.0
                continue
            step = span / (columns - 1)
            magnitudes(rows[i, at : at + columns], under, floats, bits)
            for p in range(pairs.size):
                pairs[p] = scramble(keys[i], (first >> np.uint64(1)) + np.uint64(p))
            if columns <= _SHORT:
                for j in range(columns):
                    mine, rank = bits[j], 0
                    for other in range(columns):
                        rank += bits[other] < mine
                    for other in range(j):
                        rank += bits[other] == mine
                    stays[j] = draws[j] < _limit(low, step, rank)
                continue
            left = _decide(bits, draws, low, step, shift, bins, counts, limits, flags, stays, places)
            if left > _FEW:
                rank_all(bits, order, spare, ranks)
                for j in range(columns):
                    stays[j] = draws[j] < _limit(low, step, ranks[j])
                continue
            for q in range(left):
                stays[places[q]] = draws[places[q]] < _limit(low, step, _rank(bits, places[q]))
