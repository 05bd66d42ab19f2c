"""Which elements of a task vector stay: the k of largest magnitude, or a random share.

The k-th largest |delta| is found by counting. Magnitudes are non-negative float32 numbers, whose bit patterns
are in the same order as the numbers: one pass counts the upper 16 of their 31 bits, a second one the lower 15
within the single bin that holds the k-th. Nothing is sorted and no copy is made.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import (
    CHUNK,
    COUNTS,
    LANE_SUMS,
    LANES,
    MASKS,
    READ_MASKS,
    READ_ROWS_U32,
    READ_U64,
    STORED,
)

HIGH_BINS = 1 << 16
LOW_BITS = 15
LOW_BINS = 1 << LOW_BITS
SPREAD = 16
_NO_MAGNITUDE = np.uint32(0x7FFFFFFF)


@njit(inline="always")
def magnitudes(row, base, floats, bits):  # type: ignore[no-untyped-def]
    """The bit patterns of |row - base|, rounded once to float32; `bits` is the uint32 view of `floats`."""
    for j in range(row.size):
        floats[j] = abs(np.float32(number(row[j]) - number(base[j])))


@kernel([types.void(rows, base, COUNTS) for rows, base, _ in STORED])
def count_high(rows, base, counts):  # type: ignore[no-untyped-def]
    """Add each magnitude of model i to counts[i, its upper 16 bits], zeros to one of the last SPREAD places.

    A single place for zeros would wait for itself wherever most elements have not moved.
    """
    floats, places, last = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32)
    bits = floats.view(np.uint32)
    for j in range(CHUNK):
        last[j] = HIGH_BINS + j % SPREAD
    for start in range(0, base.size, CHUNK):
        under = base[start : start + CHUNK]
        for i in range(rows.shape[0]):
            magnitudes(rows[i, start : start + CHUNK], under, floats, bits)
            for j in range(under.size):
                places[j] = bits[j] >> np.uint32(LOW_BITS) if bits[j] else last[j]
            bins = counts[i]
            for j in range(under.size):
                bins[places[j]] += 1


@kernel([types.void(rows, base, READ_ROWS_U32, COUNTS) for rows, base, _ in STORED])
def count_low(rows, base, highs, counts):  # type: ignore[no-untyped-def]
    """Add magnitudes of model i whose upper 16 bits are highs[i, c] to counts[i, c * LOW_BINS + their lower 15 bits].

    Where two cuts have the same upper bits, the first one counts. Zeros and all else go to the last SPREAD places:
    that costs less than to ask whether to count.
    """
    floats, places, last = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32)
    bits = floats.view(np.uint32)
    cuts = highs.shape[1]
    for j in range(CHUNK):
        last[j] = cuts * LOW_BINS + j % SPREAD
    for start in range(0, base.size, CHUNK):
        under = base[start : start + CHUNK]
        for i in range(rows.shape[0]):
            magnitudes(rows[i, start : start + CHUNK], under, floats, bits)
            for j in range(under.size):
                places[j] = last[j]
            for c in range(cuts - 1, -1, -1):
                first, offset = highs[i, c] << np.uint32(LOW_BITS), np.uint32(c * LOW_BINS)
                for j in range(under.size):
                    low = bits[j] - first
                    places[j] = low + offset if (low < np.uint32(LOW_BINS)) & (bits[j] != 0) else places[j]
            bins = counts[i]
            for j in range(under.size):
                bins[places[j]] += 1


@kernel([types.void(rows, base, READ_ROWS_U32, COUNTS, MASKS) for rows, base, _ in STORED])
def mask_ranked(rows, base, thresholds, spares, keep):  # type: ignore[no-untyped-def]
    """Keep what is among the largest by the model's last threshold and not by the first, where it has two.

    Those are the magnitudes above a threshold, and of those equal to it the first spares[i, c], counted down.
    """
    floats = np.empty(CHUNK, np.float32)
    bits = floats.view(np.uint32)
    last = thresholds.shape[1] - 1
    for start in range(0, base.size, CHUNK):
        under = base[start : start + CHUNK]
        for i in range(rows.shape[0]):
            magnitudes(rows[i, start : start + CHUNK], under, floats, bits)
            stays = keep[i, start : start + CHUNK]
            low, left = thresholds[i, last], spares[i, last]
            high, above = (thresholds[i, 0], spares[i, 0]) if last else (_NO_MAGNITUDE, 0)
            some, others = np.uint32(0), np.uint32(0)  # a vector holds more numbers of 32 bits than of 64
            for j in range(under.size):
                some = np.uint32(some + np.uint32(bits[j] == low))
                others = np.uint32(others + np.uint32(bits[j] == high))
            lows, highs = np.int64(some), np.int64(others)
            lows_stay, highs_go = min(lows, left), min(highs, above)
            spares[i, last] -= lows_stay
            spares[i, 0] -= highs_go
            # Nearly always, all of a chunk's ties go the same way.
            if lows_stay in (0, lows) and highs_go in (0, highs) and high > 0:
                first = low if lows_stay else low + np.uint32(1)
                final = high - np.uint32(1) if highs_go else high
                for j in range(under.size):
                    stays[j] = (bits[j] >= first) & (bits[j] <= final)
            else:
                for j in range(under.size):
                    among = bits[j] == low and lows_stay > 0
                    lows_stay -= among
                    outlier = bits[j] == high and highs_go > 0
                    highs_go -= outlier
                    stays[j] = (low < bits[j] <= high or among) and not outlier


@njit(inline="always")
def scramble(key, counter):  # type: ignore[no-untyped-def]
    """splitmix64 at position `counter` of the stream `key` (Steele, Lea and Flood 2014)."""
    z = key + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel(types.void(READ_U64, types.int64, READ_U64, MASKS))
def mask_random(keys, start, thresholds, keep):  # type: ignore[no-untyped-def]
    """keep[i, j] is whether the 32-bit draw of model i's element start + j is below its threshold; `start` is even.

    One 64-bit number serves two neighbours: its lower half the even position, its upper half the odd one.
    """
    first, size = np.uint64(start) >> np.uint64(1), keep.shape[1]
    for i in range(keep.shape[0]):
        key, threshold, stays = keys[i], thresholds[i], keep[i]
        for pair in range(size // 2):
            z = scramble(key, first + np.uint64(pair))
            stays[2 * pair] = (z & np.uint64(0xFFFFFFFF)) < threshold
            stays[2 * pair + 1] = (z >> np.uint64(32)) < threshold
        if size % 2:
            stays[size - 1] = (scramble(key, first + np.uint64(size // 2)) & np.uint64(0xFFFFFFFF)) < threshold


@kernel(
    [types.void(rows, base, types.int64, READ_MASKS, LANE_SUMS, LANE_SUMS) for rows, base, _ in STORED],
)
def add_norms(rows, base, start, keep, before, after):  # type: ignore[no-untyped-def]
    """Add |delta| of model i to the lanes before[i], and where kept to after[i]. The block begins at `start`."""
    size = base.size
    whole = size - size % LANES
    turn = start % LANES
    all_, kept = np.empty(LANES, np.float64), np.empty(LANES, np.float64)
    for i in range(rows.shape[0]):
        row, stays = rows[i], keep[i]
        for lane in range(LANES):
            all_[lane], kept[lane] = before[i, (turn + lane) % LANES], after[i, (turn + lane) % LANES]
        for first in range(0, whole, LANES):
            for lane in range(LANES):
                x = np.float64(abs(np.float32(number(row[first + lane]) - number(base[first + lane]))))
                all_[lane] += x
                kept[lane] += x * np.float64(stays[first + lane])
        for j in range(whole, size):
            x = np.float64(abs(np.float32(number(row[j]) - number(base[j]))))
            all_[j - whole] += x
            kept[j - whole] += x * np.float64(stays[j])
        for lane in range(LANES):
            before[i, (turn + lane) % LANES], after[i, (turn + lane) % LANES] = all_[lane], kept[lane]
