"""Which elements of a task vector stay: the k of largest magnitude, or a random share.

The k-th largest |delta| is found by counting. Magnitudes are non-negative float32 numbers, whose bit patterns
are in the same order as the numbers: one pass counts the upper 16 of their 31 bits, a second one the lower 15
within the single bin that holds the k-th. Nothing is sorted and no copy is made.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.signatures import COUNTS, F32, F64, MASK, READ_F32, READ_F64, READ_MASK, VIEW_U32
from tunemerge.merge.kernels.sums import LANES

HIGH_BINS = 1 << 16
LOW_BITS = 15
LOW_BINS = 1 << LOW_BITS
_DELTA = [types.void(READ_F32, READ_F32, F32), types.void(READ_F64, READ_F64, F32)]


@njit(_DELTA, cache=True, nogil=True)
def deltas(row, base, out):  # type: ignore[no-untyped-def]
    """The float32 task vector by which everything is decided: row - base, rounded once."""
    for j in range(row.size):
        out[j] = np.float32(row[j] - base[j])


@njit(types.void(VIEW_U32, COUNTS), cache=True, nogil=True)
def count_high(bits, counts):  # type: ignore[no-untyped-def]
    """Add each magnitude to counts[its upper 16 bits]; `bits` is the uint32 view of the deltas."""
    for j in range(bits.size):
        counts[(bits[j] & np.uint32(0x7FFFFFFF)) >> np.uint32(LOW_BITS)] += 1


@njit(types.void(VIEW_U32, types.uint32, COUNTS), cache=True, nogil=True)
def count_low(bits, high, counts):  # type: ignore[no-untyped-def]
    """Add each magnitude whose upper 16 bits are `high` to counts[its lower 15 bits]."""
    for j in range(bits.size):
        magnitude = bits[j] & np.uint32(0x7FFFFFFF)
        if magnitude >> np.uint32(LOW_BITS) == high:
            counts[magnitude & np.uint32(LOW_BINS - 1)] += 1


@njit(types.void(VIEW_U32, types.uint32, COUNTS, MASK), cache=True, nogil=True)
def mask_largest(bits, threshold, spare, keep):  # type: ignore[no-untyped-def]
    """Keep magnitudes above the threshold, and those equal to it while spare[0], counted down, lasts."""
    equal = 0
    for j in range(bits.size):
        magnitude = bits[j] & np.uint32(0x7FFFFFFF)
        keep[j] = magnitude > threshold
        equal += magnitude == threshold
    left = spare[0]
    if equal > 0 and left > 0:
        for j in range(bits.size):
            if left > 0 and bits[j] & np.uint32(0x7FFFFFFF) == threshold:
                keep[j] = True
                left -= 1
        spare[0] = left


@njit(types.uint64(types.uint64, types.uint64), cache=True, nogil=True, inline="always")
def _scramble(key, counter):  # type: ignore[no-untyped-def]
    """splitmix64 at position `counter` of the stream `key` (Steele, Lea and Flood 2014)."""
    z = key + (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(types.void(types.uint64, types.int64, types.uint64, MASK), cache=True, nogil=True)
def mask_random(key, start, threshold, keep):  # type: ignore[no-untyped-def]
    """keep[j] is whether the 32-bit draw of element start + j is below the threshold; `start` must be even.

    One 64-bit number serves two neighbours: its lower half the even position, its upper half the odd one.
    """
    first = np.uint64(start) >> np.uint64(1)
    for pair in range(keep.size // 2):
        z = _scramble(key, first + np.uint64(pair))
        keep[2 * pair] = (z & np.uint64(0xFFFFFFFF)) < threshold
        keep[2 * pair + 1] = (z >> np.uint64(32)) < threshold
    if keep.size % 2:
        z = _scramble(key, first + np.uint64(keep.size // 2))
        keep[keep.size - 1] = (z & np.uint64(0xFFFFFFFF)) < threshold


@njit(types.void(READ_F32, READ_MASK, F64, F64), cache=True, nogil=True)
def add_norms(delta, keep, before, after):  # type: ignore[no-untyped-def]
    """Add |delta| to the lanes `before`, and where kept to `after`; blocks begin at a multiple of LANES."""
    for j in range(delta.size):
        x = abs(np.float64(delta[j]))
        before[j % LANES] += x
        after[j % LANES] += x if keep[j] else 0.0
