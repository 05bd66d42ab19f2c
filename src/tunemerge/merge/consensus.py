"""Sign election over sparse task vectors (Yadav et al. 2023): what TIES and DARE-TIES share.

Decisions are made in float32 in a defined order, here and in the kernels alike; values are added in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.merge.method import Block, Tensor
from tunemerge.merge.parameters import Values
from tunemerge.merge.selection import Selection

if TYPE_CHECKING:
    import torch

_TINY = 1e-7


def rescale_factor(before: float, after: float) -> float:
    """What brings a sparse task vector back to the L1 norm it had; 1 where there is next to nothing."""
    return 1.0 if before < _TINY or after < _TINY else float(np.float32(before / after))


def elect_and_merge(
    tensors: Sequence[torch.Tensor], base: torch.Tensor, masks: Sequence[torch.Tensor], values: Values
) -> torch.Tensor:
    """The reference: elect a sign an element, average the deltas that have it, add them to the base."""
    import torch

    start = base.double()
    deltas = [torch.where(m, x.double() - start, 0.0) for x, m in zip(tensors, masks, strict=True)]
    scales = [1.0] * len(deltas)
    if values["rescale"]:
        full = [(x.double() - start).float().double().abs().sum().item() for x in tensors]
        kept = [d.float().double().abs().sum().item() for d in deltas]
        scales = [rescale_factor(f, k) for f, k in zip(full, kept, strict=True)]
    weights = values["weight"]
    votes = [
        d.float() * torch.tensor(s, dtype=torch.float32) * torch.tensor(w, dtype=torch.float32)
        for d, s, w in zip(deltas, scales, weights, strict=True)
    ]
    ballot = torch.zeros_like(votes[0])
    for vote in votes:
        ballot = ballot + vote
    elected = torch.where(ballot >= 0, 1.0, -1.0)
    agrees = [torch.sign(vote) == elected for vote in votes]
    mixed = sum(torch.where(a, w * s * d, 0.0) for a, w, s, d in zip(agrees, weights, scales, deltas, strict=True))
    if values["normalize"]:
        total = torch.zeros_like(start)
        for a, w in zip(agrees, weights, strict=True):
            total += w * a.double()
        mixed = mixed / torch.where(total == 0, 1.0, total)
    return start + values["lambda"] * mixed


class ConsensusStream:
    """The streaming form: the passes of the selection, one more for the norms where rescaling is asked for."""

    def __init__(self, tensor: Tensor, selection: Selection) -> None:
        from tunemerge.merge.kernels.sums import LANES

        self._selection = selection
        self._weights = np.array(tensor.values["weight"], np.float64)
        self._scales = np.ones(tensor.n_models)
        self._normalize: bool = tensor.values["normalize"]
        self._lambda: float = tensor.values["lambda"]
        self._norms = np.zeros((2, tensor.n_models, LANES))
        self.passes = selection.passes + int(tensor.values["rescale"])
        self._scratch = _Scratch(tensor.n_models, 0)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels import select

        scratch, base = self._sized(block), block.deltas_from
        for model, row in enumerate(block.rows):
            select.deltas(row, base, scratch.delta)
            if index < self._selection.passes:
                self._selection.scan(index, model, scratch.delta)
            else:
                self._selection.mask(model, scratch.delta, block.start, scratch.keep[model])
                before, after = self._norms[:, model]
                select.add_norms(scratch.delta, scratch.keep[model], before, after)

    def finish(self, index: int) -> None:
        if index < self._selection.passes:
            self._selection.finish(index)
        else:
            before, after = self._norms.sum(axis=2)
            self._scales[:] = [rescale_factor(b, a) for b, a in zip(before, after, strict=True)]
            self._selection.restart()

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels import consensus, select

        scratch, base = self._sized(block), block.deltas_from
        for model, row in enumerate(block.rows):
            select.deltas(row, base, scratch.delta)
            self._selection.mask(model, scratch.delta, block.start, scratch.keep[model])
        consensus.merge_agreeing(
            block.rows,
            base,
            scratch.keep,
            self._weights,
            self._scales,
            self._normalize,
            self._lambda,
            scratch.votes,
            scratch.total,
            block.out,
        )

    def _sized(self, block: Block) -> _Scratch:
        if self._scratch.delta.size != block.out.size:
            self._scratch = _Scratch(len(block.rows), block.out.size)
        return self._scratch


class _Scratch:
    """Working arrays of one block's length."""

    def __init__(self, n_models: int, length: int) -> None:
        self.delta = np.empty(length, np.float32)
        self.keep: NDArray[np.bool_] = np.empty((n_models, length), np.bool_)
        self.votes = np.empty(length, np.float32)
        self.total: NDArray[Any] = np.empty(length, np.float64)
