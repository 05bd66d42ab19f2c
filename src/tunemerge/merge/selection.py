"""Which elements of each task vector a sparse method keeps, decided block by block."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunemerge.merge.method import Tensor
from tunemerge.merge.random import keep_threshold, stream_key

Delta = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Selection(Protocol):
    """`passes` times all blocks of all models through `scan`; then `mask`, block after block, in order."""

    passes: int

    def scan(self, index: int, model: int, delta: Delta) -> None: ...

    def finish(self, index: int) -> None: ...

    def restart(self) -> None:
        """Masks are asked for from the first block again."""

    def mask(self, model: int, delta: Delta, start: int, keep: Mask) -> None:
        """Fill `keep` for the block of this model that begins at element `start`."""


class Largest:
    """The int(density * size) elements of largest float32 magnitude; among equal ones, the earlier."""

    def __init__(self, tensor: Tensor) -> None:
        self._counts = [int(density * tensor.size) for density in tensor.values["density"]]
        self._size = tensor.size
        self._undecided = [i for i, k in enumerate(self._counts) if 0 < k < tensor.size]
        self.passes = 2 if self._undecided else 0
        n = tensor.n_models
        self._threshold = np.zeros(n, np.uint32)
        self._spare = [np.zeros(1, np.int64) for _ in range(n)]
        self._spare_at_start = [0] * n
        self._bins: dict[int, NDArray[Any]] = {}

    def scan(self, index: int, model: int, delta: Delta) -> None:
        from tunemerge.merge.kernels import select

        if model not in self._undecided:
            return
        bins = select.LOW_BINS if index else select.HIGH_BINS
        counts = self._bins.setdefault(model, np.zeros(bins, np.int64))
        if index:
            select.count_low(delta.view(np.uint32), self._threshold[model], counts)
        else:
            select.count_high(delta.view(np.uint32), counts)

    def finish(self, index: int) -> None:
        """After pass 0 the threshold is the upper bits of the k-th largest, after pass 1 all of them."""
        from tunemerge.merge.kernels.select import LOW_BITS

        for model in self._undecided:
            wanted = self._spare_at_start[model] if index else self._counts[model]
            counts = self._bins[model]
            from_top = np.cumsum(counts[::-1])
            place = int(np.searchsorted(from_top, wanted))
            found = counts.size - 1 - place
            above = int(from_top[place] - counts[found])
            self._spare_at_start[model] = wanted - above
            high = int(self._threshold[model])
            self._threshold[model] = (high << LOW_BITS) | found if index else found
        self._bins = {}
        self.restart()

    def restart(self) -> None:
        for spare, count in zip(self._spare, self._spare_at_start, strict=True):
            spare[0] = count

    def mask(self, model: int, delta: Delta, start: int, keep: Mask) -> None:
        from tunemerge.merge.kernels.select import mask_largest

        if model in self._undecided:
            mask_largest(delta.view(np.uint32), self._threshold[model], self._spare[model], keep)
        else:
            keep[:] = self._counts[model] > 0


class RandomShare:
    """Each element with probability `density`, by a hash of what and where it is."""

    passes = 0

    def __init__(self, tensor: Tensor, method: str) -> None:
        self._keys = [stream_key(tensor.seed, method, i, tensor.name) for i in range(tensor.n_models)]
        self._thresholds = [keep_threshold(share) for share in tensor.values["density"]]

    def scan(self, index: int, model: int, delta: Delta) -> None:
        raise NotImplementedError

    def finish(self, index: int) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        return

    def mask(self, model: int, delta: Delta, start: int, keep: Mask) -> None:
        from tunemerge.merge.kernels.select import mask_random

        mask_random(self._keys[model], start, self._thresholds[model], keep)
