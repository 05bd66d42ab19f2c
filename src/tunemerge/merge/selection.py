"""Which elements of each task vector a sparse method keeps, decided block by block."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunemerge.merge.method import Block, Tensor, Unit
from tunemerge.merge.random import keep_threshold, stream_key

Masks = NDArray[np.bool_]


class Selection(Protocol):
    """`passes` times all blocks through `scan`; then `mask`, block after block, in order."""

    passes: int
    unit: Unit

    def scan(self, index: int, block: Block) -> None: ...

    def finish(self, index: int) -> None: ...

    def restart(self) -> None:
        """Masks are asked for from the first block again."""

    def mask(self, block: Block, keep: Masks) -> None:
        """Fill `keep` (models, length)."""


class Largest:
    """The int(density * size) elements of largest float32 magnitude; among equal ones, the earlier."""

    unit: Unit = "element"

    def __init__(self, tensor: Tensor) -> None:
        self._ranks = Ranks([int(share * tensor.size) for share in tensor.values["density"]], tensor.size)
        self.passes = self._ranks.passes
        self._spares = self._ranks.spares.copy()

    def scan(self, index: int, block: Block) -> None:
        self._ranks.scan(index, block)

    def finish(self, index: int) -> None:
        self._ranks.finish(index)
        self.restart()

    def restart(self) -> None:
        self._spares[:] = self._ranks.spares

    def mask(self, block: Block, keep: Masks) -> None:
        from tunemerge.merge.kernels.select import mask_largest

        mask_largest(block.rows, block.deltas_from, self._ranks.thresholds, self._spares, keep)


class Ranks:
    """The bit pattern of each model's k-th largest |delta|, by counting in two passes.

    Afterwards, elements above `thresholds` stay, and of those equal to it the first `spares`. A k of 0 keeps
    nothing, one of the tensor's size everything; where all are so, nothing needs to be read.
    """

    def __init__(self, counts: list[int], size: int) -> None:
        self._counts, self._size = counts, size
        self.passes = 2 if any(0 < k < size for k in counts) else 0
        self.thresholds = np.array([0 if k >= size else 0xFFFFFFFF for k in counts], np.uint32)
        self.spares = np.array([size if k >= size else 0 for k in counts], np.int64)
        self._undecided = [i for i, k in enumerate(counts) if 0 < k < size]
        self._highs = np.full(len(counts), 0xFFFFFFFF, np.uint32)
        self._bins = np.zeros((0, 0), np.int64)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels import select

        if not self._bins.size:
            self._bins = np.zeros((len(self._counts), select.LOW_BINS if index else select.HIGH_BINS), np.int64)
        if index:
            select.count_low(block.rows, block.deltas_from, self._highs, self._bins)
        else:
            select.count_high(block.rows, block.deltas_from, self._bins)

    def finish(self, index: int) -> None:
        """After pass 0 the upper bits of the k-th largest are known, after pass 1 all of them."""
        from tunemerge.merge.kernels.select import LOW_BITS

        for model in self._undecided:
            wanted = int(self.spares[model]) if index else self._counts[model]
            from_top = np.cumsum(self._bins[model][::-1])
            place = int(np.searchsorted(from_top, wanted))
            found = from_top.size - 1 - place
            self.spares[model] = wanted - (from_top[place - 1] if place else 0)
            if index:
                self.thresholds[model] = (int(self._highs[model]) << LOW_BITS) | found
            else:
                self._highs[model] = found
        self._bins = np.zeros((0, 0), np.int64)


class RandomShare:
    """Each element with probability `density`, by a hash of what and where it is."""

    passes = 0
    unit: Unit = "element"

    def __init__(self, tensor: Tensor, method: str) -> None:
        keys = [stream_key(tensor.seed, method, i, tensor.name) for i in range(tensor.n_models)]
        self._keys = np.array(keys, np.uint64)
        self._thresholds = np.array([keep_threshold(share) for share in tensor.values["density"]], np.uint64)

    def scan(self, index: int, block: Block) -> None:
        raise NotImplementedError

    def finish(self, index: int) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        return

    def mask(self, block: Block, keep: Masks) -> None:
        from tunemerge.merge.kernels.select import mask_random

        mask_random(self._keys, block.start, self._thresholds, keep)
