"""The k-th largest of each row of numbers, found by counting: two passes, no sort, no copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunemerge.checkpoint.dtypes import Array

NOTHING, EVERYTHING = 0xFFFFFFFF, 0


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
                self._bins = np.zeros((len(self._highs), select.HIGH_BINS), np.int64)
            select.count_high(rows, base, self._bins)
        elif self._undecided:
            select.count_low(rows, base, self._highs, self._bins)

    def narrow(self, counts: Sequence[Sequence[int]], size: int) -> None:
        """After pass 0: `counts[i][c]` of `size` numbers are wanted. The upper bits of the thresholds are known."""
        from tunemerge.merge.kernels.select import LOW_BINS

        self._undecided = []
        for i, ks in enumerate(counts):
            for c, k in enumerate(ks):
                if 0 < k < size:
                    self._highs[i, c], self.spares[i, c] = _kth(self._bins[i], k)
                    self._undecided.append((i, c))
                else:
                    # No number has these upper bits: the second pass counts nothing.
                    self._highs[i, c] = NOTHING
                    self.thresholds[i, c] = EVERYTHING if k else NOTHING
                    self.spares[i, c] = k
        self._bins = np.zeros((self._highs.size if self._undecided else 0, LOW_BINS), np.int64)

    def settle(self) -> None:
        """After pass 1: all bits are known."""
        from tunemerge.merge.kernels.select import LOW_BITS

        cuts = self._highs.shape[1]
        for i, c in self._undecided:
            low, self.spares[i, c] = _kth(self._bins[i * cuts + c], int(self.spares[i, c]))
            self.thresholds[i, c] = (int(self._highs[i, c]) << LOW_BITS) | low
        self._bins = np.zeros((0, 0), np.int64)


def _kth(bins: Array, k: int) -> tuple[int, int]:
    """The bin of the k-th largest number, and the how-manieth it is within that bin, from 1."""
    from_top = np.cumsum(bins[::-1])
    place = int(np.searchsorted(from_top, k))
    return from_top.size - 1 - place, k - (int(from_top[place - 1]) if place else 0)
