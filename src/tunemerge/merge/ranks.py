"""The k-th largest of each row of numbers, found by counting: two passes, no sort, no copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunemerge.checkpoint.dtypes import Array

NOTHING, EVERYTHING = 0x7FFFFFFF, 0
"""Thresholds that no finite number is above, and that every number other than 0 is above."""
NO_HIGH = 0xFFFF
"""Upper bits that no finite number has."""
_GROUP = 256


class Ranks:
    """For each row, the bit patterns of its k-th largest |row - base|, for one k or several ("cuts").

    Send all blocks through `count(0, ...)`, then say the ks to `narrow`; send them through `count(1, ...)`, then
    `settle`. Afterwards, of cut c of row i, numbers above `thresholds[i, c]` are among the k largest, and of those
    equal to it the first `spares[i, c]`. A k of 0 is none of them, one of the tensor's size all; `narrow` is
    enough where there are no others.
    """

    def __init__(self, rows: int, cuts: int) -> None:
        self.thresholds = np.zeros((rows, cuts), np.uint32)
        self.spares = np.zeros((rows, cuts), np.int64)
        self._highs = np.zeros((rows, cuts), np.uint32)
        self._undecided: list[tuple[int, int]] = []
        self._bins = np.zeros((0, 0), np.int64)

    def count(self, index: int, rows: Array, base: Array) -> None:
        """Pass `index` takes a block of (rows, length) numbers and the (length,) they are measured from."""
        from tunemerge.merge.kernels import select

        if index == 0:
            if not self._bins.size:
                self._bins = np.zeros((len(self._highs), select.HIGH_BINS + select.SPREAD), np.int64)
            select.count_high(rows, base, self._bins)
        elif self._undecided:
            select.count_low(rows, base, self._highs, self._bins)

    def narrow(self, counts: Sequence[Sequence[int]], size: int) -> None:
        """After pass 0: `counts[i][c]` of `size` numbers are wanted. The upper bits of the thresholds are known."""
        from tunemerge.merge.kernels.select import HIGH_BINS, LOW_BINS, SPREAD

        self._undecided = []
        for i, ks in enumerate(counts):
            zeros = int(self._bins[i, HIGH_BINS:].sum()) if self._bins.size else size
            for c, k in enumerate(ks):
                if 0 < k <= size - zeros and k < size:
                    self._highs[i, c], self.spares[i, c] = _kth(self._bins[i, :HIGH_BINS], k)
                    self._undecided.append((i, c))
                else:
                    self._highs[i, c] = NO_HIGH
                    self.thresholds[i, c] = EVERYTHING if k else NOTHING
                    self.spares[i, c] = max(0, k - (size - zeros))
        rows, cuts = self._highs.shape
        self._bins = np.zeros((rows if self._undecided else 0, cuts * LOW_BINS + SPREAD), np.int64)

    def settle(self) -> None:
        """After pass 1: all bits are known."""
        from tunemerge.merge.kernels.select import LOW_BINS, LOW_BITS

        for i, c in self._undecided:
            high = int(self._highs[i, c])
            counted = self._highs[i].tolist().index(high) * LOW_BINS
            low, self.spares[i, c] = _kth(self._bins[i, counted : counted + LOW_BINS], int(self.spares[i, c]))
            self.thresholds[i, c] = (high << LOW_BITS) | low
        self._bins = np.zeros((0, 0), np.int64)


def _kth(bins: Array, k: int) -> tuple[int, int]:
    """The bin of the k-th largest number, and the how-manieth it is within that bin, from 1."""
    group, k = _from_top(bins.reshape(-1, _GROUP).sum(axis=1), k)
    place, k = _from_top(bins[group * _GROUP : (group + 1) * _GROUP], k)
    return group * _GROUP + place, k


def _from_top(bins: Array, k: int) -> tuple[int, int]:
    above = np.cumsum(bins[::-1])
    place = int(np.searchsorted(above, k))
    return above.size - 1 - place, k - (int(above[place - 1]) if place else 0)
