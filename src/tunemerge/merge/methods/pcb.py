"""PCB-Merging (Du et al. 2024): every element weighed by how its models compete for it.

With N models and task vectors t_i, the weight of an element of model i is
    softmax(N * norm(t_i * t_i)) * sum over j of softmax(norm(t_i * t_j)),
its importance within the task times its agreement with all tasks. Only the share `density` of largest weight stays
in each model, and the result is base + lambda * weighted mean of the task vectors.

This is the paper's formula, where norm is the way to the range 0..1 (as in the authors' code; 0 where all products
are equal) and softmax runs over the elements. Like all methods here it takes a tensor at a time; the paper
concatenates all tensors. The authors' code departs from the paper: it has tanh(t_i * sum of t_j) for the agreement and
clamps by quantiles. What is kept is decided by the weights rounded to float32; of equal ones, the earlier stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Block, Method, Tensor, Unit, register
from tunemerge.merge.parameters import LAMBDA, Values, density
from tunemerge.merge.sampled import SampledRanks
from tunemerge.merge.selection import largest_count

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Balance, drop, rescale."""
    import torch

    assert base is not None
    start = base.double().flatten()
    if not start.numel():
        return base.double()
    deltas = [x.double().flatten() - start for x in tensors]
    mixed, total = torch.zeros_like(start), torch.zeros_like(start)
    for delta, share in zip(deltas, values["density"], strict=True):
        within = torch.softmax(len(deltas) * _norm(delta * delta), dim=0)
        between = sum(torch.softmax(_norm(delta * other), dim=0) for other in deltas)
        weight = within * between
        largest_first = weight.float().sort(descending=True, stable=True).indices
        count = max(1, int(share * weight.numel())) if share > 0 else 0
        kept = torch.zeros_like(weight)
        kept[largest_first[:count]] = weight[largest_first[:count]]
        mixed, total = mixed + kept * delta, total + kept
    mean = mixed / torch.where(total > 0, total, 1.0)
    return (start + values["lambda"] * mean).reshape(base.shape)


def _norm(x: torch.Tensor) -> torch.Tensor:
    spread = x.max() - x.min()
    return (x - x.min()) / spread if spread > 0 else x - x.min()


class PcbStream:
    """One pass for the ranges of products, one for the softmaxes' sums, and those of the ranks where any are dropped.

    What the ranks look at needs the sums first, so the sample is kept until they are there.
    """

    unit: Unit = "element"
    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        from tunemerge.merge.kernels.signatures import LANES

        n = tensor.n_models
        number = n * (n + 1) // 2
        self._scale: float = tensor.values["lambda"]
        self._size = tensor.size
        self._counts = [(largest_count(share, tensor.size),) for share in tensor.values["density"]]
        self._ranks = SampledRanks(n, 1, tensor.size)
        self._drops = any(0 < k < tensor.size for (k,) in self._counts)
        self._sample: list[Block] = []
        self.looks = self._drops and self._ranks.looks
        self._low, self._high = np.full(number, np.inf), np.full(number, -np.inf)
        self._by = np.zeros(number)
        self._lanes = np.zeros((number + n, LANES))
        self._shares = np.ones(number + n)
        self._weights, self._keep = np.empty((n, 0)), np.empty((n, 0), np.bool_)
        self._zeros = np.zeros(0, np.float32)
        if not self._drops:
            self._ranks.finish(self._counts)
        self._spares = self._ranks.spares.copy()

    @property
    def passes(self) -> int:
        return 2 + (self._ranks.passes if self._drops else 0)

    def look(self, block: Block) -> None:
        self._sample.append(replace(block, rows=block.rows.copy(), base=block.deltas_from.copy()))

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.pcb import add_exponentials, widen_ranges

        base = block.deltas_from
        if index == 0:
            widen_ranges(block.rows, base, self._low, self._high)
        elif index == 1:
            add_exponentials(block.rows, base, self._low, self._by, self._lanes)
        else:
            self._ranks.scan(self._decisive(block), self._zeros)

    def finish(self, index: int) -> None:
        if index == 0:
            spread = self._high - self._low
            self._by[:] = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
        elif index == 1:
            totals = self._lanes.sum(axis=1)
            self._shares[:] = 1 / np.where(totals > 0, totals, 1.0)  # 0 for a tensor without elements
            for block in self._sample:
                self._ranks.look(self._decisive(block), self._zeros)
            if self._sample:
                self._ranks.aim([[k / self._size for k in ks] for ks in self._counts])
            self._sample = []
        else:
            self._ranks.finish(self._counts)
            self._spares = self._ranks.spares.copy()

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.pcb import add_balanced
        from tunemerge.merge.kernels.select import mask_ranked

        mask_ranked(self._decisive(block), self._zeros, self._ranks.thresholds, self._spares, self._keep)
        add_balanced(block.rows, block.deltas_from, self._weights, self._keep, self._scale, block.out)

    def _decisive(self, block: Block) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The weights of a block in float32; `_weights` has them in float64."""
        from tunemerge.merge.kernels.pcb import balances

        if self._weights.shape != block.rows.shape:
            self._weights, self._keep = np.empty(block.rows.shape), np.empty(block.rows.shape, np.bool_)
            self._zeros = np.zeros(block.out.size, np.float32)
        balances(block.rows, block.deltas_from, self._low, self._by, self._shares, self._weights)
        return self._weights.astype(np.float32)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale and density; the paper keeps between 5% and 20%."""
    scales, shares = [1.0, 1.5, 0.7, 2.0, 0.4], [0.2, 0.1, 0.5, 0.05]
    return [{"lambda": scale, "density": share} for scale, share in pairs(scales, shares, k)]


PCB = register(
    Method(
        name="pcb",
        paper="2410.02396",
        summary="weigh elements by importance within and agreement between tasks, drop the least, average",
        parameters=(density(1.0, "share of each task vector that is kept, by weight"), LAMBDA),
        base="needed",
        reference=reference,
        stream=PcbStream,
        candidates=candidates,
        version=2,
    )
)
