"""The k-th largest of each row of numbers by a single pass, where a sample says about where it is.

The pass counts what is above a window in which the k-th should be and collects what is inside. Where the k-th turns out
not to be there, `Ranks` finds it in two more passes. Both ways are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunemerge.checkpoint.dtypes import Array
from tunemerge.merge.method import SAMPLE
from tunemerge.merge.ranks import EVERYTHING, NOTHING, Ranks

_MARGIN = 0.03
"""How far off in rank, as a share of the tensor, a sample may be."""
_LEAST_MARGIN = 0.005
"""Where only less has room, looking doesn't pay."""
_ROOM = 1 << 21
"""Numbers that a window holds at most."""


class SampledRanks:
    """`Ranks` that take one pass where they may look at a sample, two where not, three where it misleads.

    Where it `looks`, show it a sample by `look`, which `aim` ends, or don't. Then send all blocks through `scan` and
    say the ks to `finish`, `passes` times; `passes` may change in `finish`. Where every k is 0 or the size, one
    `finish` without a scan is enough. `thresholds` and `spares` are those of `Ranks`.
    """

    def __init__(self, rows: int, cuts: int, size: int) -> None:
        self._ranks, self._size, self._passed = Ranks(rows, cuts), size, 0
        self._margin = min(_MARGIN, _ROOM / (4 * max(size, 1)))
        self._sample: Array | None = None
        self.window: Window | None = None
        self.looks = size >= 4 * SAMPLE and self._margin >= _LEAST_MARGIN
        self.passes = 2
        self.thresholds, self.spares = self._ranks.thresholds, self._ranks.spares

    @property
    def looked(self) -> bool:
        """Whether there is a sample to `aim` by."""
        return self._sample is not None

    def look(self, rows: Array, base: Array) -> None:
        """Part of a sample: (rows, length) numbers and the (length,) they are measured from."""
        from tunemerge.merge.kernels import select

        if self._sample is None:
            self._sample = np.zeros((len(self.spares), select.HIGH_BINS + select.SPREAD), np.int64)
        select.count_high(rows, base, self._sample)

    def aim(self, shares: Sequence[Sequence[float]], *, of_moved: bool = False) -> None:
        """The ks will be about these shares of the size, or of the numbers that are not 0."""
        from tunemerge.merge.kernels.select import HIGH_BINS

        assert self._sample is not None
        counted = self._sample[:, :HIGH_BINS] if of_moved else self._sample
        ranks = [[share * int(n) for share in row] for row, n in zip(shares, counted.sum(axis=1), strict=True)]
        self.window = Window(self._sample, ranks, self._margin, min(_ROOM, self._size // 2))
        self._sample = None

    def scan(self, rows: Array, base: Array) -> None:
        if self.window:
            self.window.scan(rows, base)
        else:
            self._ranks.count(self._passed, rows, base)

    def finish(self, counts: Sequence[Sequence[int]]) -> None:
        """`counts[i][c]` of the numbers are wanted."""
        if self.window:
            found = self.window.find(counts, self._size)
            self.window = None
            if found:
                self.thresholds, self.spares = found
            self.passes = 1 if found else 3
            return
        if self._passed == 0:
            self._ranks.narrow(counts, self._size)
        else:
            self._ranks.settle()
        self._passed += 1


class Window:
    """The quick way: where a sample says that each k-th largest is, with a margin in rank on both sides.

    Window c of row i holds the bit patterns from firsts[i, c] on, widths[i, c] of them. `scan` fills
    inside[i * cuts + c] with what is there, filled[i, c] numbers, and counts in above[i, c] what is above.

    `ranks` are those within the sample, `margin` is a share of all, `room` how many numbers a window may hold.
    """

    def __init__(self, sample: Array, ranks: Sequence[Sequence[float]], margin: float, room: int) -> None:
        from tunemerge.merge.kernels.select import HIGH_BINS, LOW_BITS
        from tunemerge.merge.kernels.signatures import CHUNK

        shape = len(ranks), len(ranks[0])
        self.firsts, self.widths = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self.above, self.filled = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._room, self.inside = room, np.empty((shape[0] * shape[1], room + CHUNK), np.uint32)
        for i, wanted in enumerate(ranks):
            from_top, off = np.cumsum(sample[i, HIGH_BINS - 1 :: -1]), margin * int(sample[i].sum())
            for c, rank in enumerate(wanted):
                ends = np.searchsorted(from_top, [rank - off, rank + off])
                top, bottom = (HIGH_BINS - 1 - int(end) for end in ends)
                self.firsts[i, c] = max(1, bottom << LOW_BITS)
                self.widths[i, c] = max(1, (top + 1) << LOW_BITS) - int(self.firsts[i, c])

    def scan(self, rows: Array, base: Array) -> None:
        from tunemerge.merge.kernels.window import gather_window

        gather_window(rows, base, self.firsts, self.widths, self.above, self.inside, self.filled)

    def find(self, counts: Sequence[Sequence[int]], size: int) -> tuple[Array, Array] | None:
        """Thresholds and spares, or None where one is outside of its window. Zeros are below all windows."""
        from tunemerge.merge.kernels.window import kth_largest

        thresholds, spares = np.zeros(self.above.shape, np.uint32), np.zeros(self.above.shape, np.int64)
        for i, ks in enumerate(counts):
            for c, k in enumerate(ks):
                held, left = int(self.filled[i, c]), k - int(self.above[i, c])
                inside, first = self.inside[i * len(ks) + c, :held], int(self.firsts[i, c])
                if k == 0:
                    thresholds[i, c] = NOTHING
                elif k >= size:
                    thresholds[i, c], spares[i, c] = EVERYTHING, size
                elif left <= 0 or held > self._room:
                    return None
                elif left <= held:
                    thresholds[i, c], spares[i, c] = kth_largest(inside, left, first, self.widths[i, c])
                elif first == 1:
                    thresholds[i, c], spares[i, c] = EVERYTHING, left - held
                else:
                    return None
        return thresholds, spares
