"""The k-th largest magnitude by one pass, where a sample has said about how large it is."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.select import SPREAD, magnitudes
from tunemerge.merge.kernels.signatures import CHUNK, COUNTS, READ_ROWS_U32, READ_U32, ROWS_U32, STORED

_BINS = 1 << 11
PLACE = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]


@njit(inline="always")
def append_flagged(bits, flags, words, hot, place, inside):  # type: ignore[no-untyped-def]
    """Append what is flagged where it fits; returns `place` moved by how many that are.

    Few are: `words`, the uint64 view of `flags`, says which eight have any.
    """
    found = 0
    for w in range(words.size):
        hot[found] = w
        found += words[w] != 0
    if place + flags.size <= inside.size:
        at = np.uint64(place)
        for q in range(found):
            first = np.uint64(hot[q]) * np.uint64(8)
            for j in range(8):
                inside[at] = bits[first + np.uint64(j)]
                at += flags[first + np.uint64(j)]
        return np.int64(at)
    for w in range(flags.size):
        place += flags[w]
    return place


@kernel(
    [types.void(rows, base, READ_ROWS_U32, READ_ROWS_U32, COUNTS, ROWS_U32, COUNTS) for rows, base, _ in STORED],
)
def gather_window(rows, base, firsts, widths, above, found, filled):  # type: ignore[no-untyped-def]
    """Count magnitudes of model i above its window c, and append those within to found[i * cuts + c], in order.

    A window is [first, first + width). filled[i, c] is how many there are; where they are not CHUNK fewer than
    found has places, some didn't fit.
    """
    floats, flags = np.zeros(CHUNK, np.float32), np.empty(CHUNK, np.uint8)
    bits, words, hot = floats.view(np.uint32), flags.view(np.uint64), np.empty(CHUNK // 8 + 1, np.int64)
    cuts = firsts.shape[1]
    for start in range(0, base.size, CHUNK):
        under = base[start : start + CHUNK]
        for i in range(rows.shape[0]):
            magnitudes(rows[i, start : start + CHUNK], under, floats, bits)
            for c in range(cuts):
                first, width, inside = firsts[i, c], widths[i, c], found[i * cuts + c]
                larger = 0
                for j in range(under.size):
                    larger += bits[j] >= first + width
                above[i, c] += larger
                for j in range(under.size):
                    flags[j] = bits[j] - first < width
                flags[under.size :] = 0
                filled[i, c] = append_flagged(bits, flags, words, hot, filled[i, c], inside)


@kernel(PLACE(READ_U32, types.int64, types.int64, types.int64))
def kth_largest(bits, k, first, width):  # type: ignore[no-untyped-def]
    """The k-th largest of numbers in [first, first + width), and the how-manieth it is among its equals, from 1."""
    counts = np.empty(_BINS + SPREAD, np.int64)
    while width > 1:
        shift = 0
        while (width - 1) >> shift >= _BINS:
            shift += 1
        low, range_ = np.uint32(first), np.uint32(width)
        counts[:] = 0
        for j in range(bits.size):
            off = bits[j] - low
            counts[off >> np.uint32(shift) if off < range_ else np.uint32(_BINS + j % SPREAD)] += 1
        place = _BINS - 1
        while counts[place] < k:
            k -= counts[place]
            place -= 1
        first += place << shift
        width = 1 << shift
    return first, k
