"""Which elements of each task vector a sparse method keeps, decided block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunemerge.merge.method import Block, Tensor, Unit
from tunemerge.merge.random import keep_threshold, rank_thresholds, share_range, stream_key
from tunemerge.merge.sampled import SampledRanks

Masks = NDArray[np.bool_]


class Selection(Protocol):
    """`passes` times all blocks through `scan`; then `mask`, block after block, in order.

    As in a stream, `passes` may change in `finish`, and `look` takes a sample before, where the selection `looks`.
    """

    unit: Unit
    looks: bool

    @property
    def passes(self) -> int: ...

    def look(self, block: Block) -> None: ...

    def scan(self, index: int, block: Block) -> None: ...

    def finish(self, index: int) -> None: ...

    def restart(self) -> None:
        """Masks are asked for from the first block again."""

    def mask(self, block: Block, keep: Masks) -> None:
        """Fill `keep` (models, length)."""


class Ranked:
    """By rank of float32 magnitude within the tensor, the largest first; among equal ones, the earlier.

    `counts` has for each model (k,), which keeps the k largest, or (j, k), which keeps those but the j largest.
    """

    unit: Unit = "element"

    def __init__(self, counts: Sequence[Sequence[int]], size: int) -> None:
        self._counts, self._size = counts, size
        self._ranks = SampledRanks(len(counts), len(counts[0]), size)
        self._reads = any(0 < k < size for ks in counts for k in ks)
        self.looks = self._reads and self._ranks.looks
        if not self._reads:
            self._ranks.finish(counts)
        self.restart()

    @property
    def passes(self) -> int:
        return self._ranks.passes if self._reads else 0

    def look(self, block: Block) -> None:
        self._ranks.look(block.rows, block.deltas_from)

    def scan(self, index: int, block: Block) -> None:
        if index == 0 and self._ranks.looked:
            self._ranks.aim([[k / self._size for k in ks] for ks in self._counts])
        self._ranks.scan(block.rows, block.deltas_from)

    def finish(self, index: int) -> None:
        self._ranks.finish(self._counts)
        self.restart()

    def restart(self) -> None:
        self._spares = self._ranks.spares.copy()

    def mask(self, block: Block, keep: Masks) -> None:
        from tunemerge.merge.kernels.select import mask_ranked

        mask_ranked(block.rows, block.deltas_from, self._ranks.thresholds, self._spares, keep)


def largest_count(density: float, size: int) -> int:
    """How many of `size` elements TIES keeps: rounded down, but at least one unless the density is 0."""
    return min(size, max(1, int(density * size))) if density > 0 else 0


def middle_counts(density: float, gamma: float, size: int) -> tuple[int, int]:
    """How many of the largest Breadcrumbs drops, and how many are left when the smallest are dropped too.

    The share `density` stays in any case: where `gamma` leaves too little, fewer of the largest go.
    """
    stay = int(density * size)
    top = min(int(gamma * size), size - stay)
    return (top, top + stay) if stay else (0, 0)


class Unread:
    """Base of selections that need no statistics of the tensor."""

    passes = 0
    looks = False

    def look(self, block: Block) -> None:
        raise NotImplementedError

    def scan(self, index: int, block: Block) -> None:
        raise NotImplementedError

    def finish(self, index: int) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        return


class RandomShare(Unread):
    """Each element with probability `density`, by a hash of what and where it is."""

    unit: Unit = "element"

    def __init__(self, tensor: Tensor, method: str) -> None:
        keys = [stream_key(tensor.seed, method, i, tensor.name) for i in range(tensor.n_models)]
        self._keys = np.array(keys, np.uint64)
        self._thresholds = np.array([keep_threshold(share) for share in tensor.values["density"]], np.uint64)

    def mask(self, block: Block, keep: Masks) -> None:
        from tunemerge.merge.kernels.select import mask_random

        mask_random(self._keys, block.start, self._thresholds, keep)


class RandomByRank(Unread):
    """Each element with a probability that grows with its rank of magnitude within its row, as in DELLA.

    From density - epsilon for the smallest to density + epsilon for the largest; equal magnitudes rank by position.
    """

    unit: Unit = "row"

    def __init__(self, tensor: Tensor, method: str) -> None:
        keys = [stream_key(tensor.seed, method, i, tensor.name) for i in range(tensor.n_models)]
        self._keys = np.array(keys, np.uint64)
        self._columns = tensor.columns
        shares = list(zip(tensor.values["density"], tensor.values["epsilon"], strict=True))
        self._ranges = np.array([share_range(density, epsilon) for density, epsilon in shares], np.float64)
        self._single = np.concatenate([rank_thresholds(density, epsilon, 1) for density, epsilon in shares])

    def mask(self, block: Block, keep: Masks) -> None:
        from tunemerge.merge.kernels.rank import mask_by_rank
        from tunemerge.merge.kernels.select import mask_random

        base = block.deltas_from
        if self._columns > 1:
            mask_by_rank(block.rows, base, block.start, self._columns, self._ranges, self._keys, keep)
        else:
            mask_random(self._keys, block.start, self._single, keep)
