"""Sparse task vectors, combined: what TIES, DARE, DELLA and Breadcrumbs share.

They differ in which elements of each task vector stay (`selection`), and in whether the models then elect a sign an
element (Yadav et al. 2023). Decisions are made in float32 in a defined order, here and in the kernels alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunemerge.merge.method import Block, Tensor, Unit
from tunemerge.merge.parameters import Values
from tunemerge.merge.selection import Masks, Selection

if TYPE_CHECKING:
    import torch

_TINY = 1e-7
_NO_SUM = 1e-8
KEPT_BYTES = 1 << 25
"""Masks of a tensor are kept for the second time they are needed, a bit an element, where they fit in this."""


def rescale_factor(before: float, after: float) -> float:
    """What brings a sparse task vector back to the L1 norm it had; 1 where there is next to nothing."""
    return 1.0 if before < _TINY or after < _TINY else float(np.float32(before / after))


def density_factor(density: float) -> float:
    """What keeps a task vector's expectation where each element stays with this probability."""
    return float(np.float32(1.0 / density)) if density > 0 else 1.0


def combine(
    tensors: Sequence[torch.Tensor],
    base: torch.Tensor,
    masks: Sequence[torch.Tensor],
    values: Values,
    *,
    elect: bool,
) -> torch.Tensor:
    """The reference: scale what the masks keep, where asked only what agrees with the elected sign, and add it up."""
    import torch

    start = base.double()
    deltas = [torch.where(m, x.double() - start, 0.0) for x, m in zip(tensors, masks, strict=True)]
    scales = [1.0] * len(deltas)
    if values.get("rescale_by_density"):
        scales = [density_factor(share) for share in values["density"]]
    elif values["rescale"]:
        full = [(x.double() - start).float().double().abs().sum().item() for x in tensors]
        kept = [d.float().double().abs().sum().item() for d in deltas]
        scales = [rescale_factor(f, k) for f, k in zip(full, kept, strict=True)]
    weights = values["weight"]
    agrees = _elect(deltas, scales, weights) if elect else [torch.ones_like(d, dtype=torch.bool) for d in deltas]
    mixed = sum(torch.where(a, w * s * d, 0.0) for a, w, s, d in zip(agrees, weights, scales, deltas, strict=True))
    if values["normalize"]:
        total = torch.zeros_like(start)
        for a, w in zip(agrees, weights, strict=True):
            total += w * a.double()
        no_sum = total == 0 if elect else total.abs() < _NO_SUM
        mixed = mixed / torch.where(no_sum, 1.0, total)
    return start + values["lambda"] * mixed


def _elect(deltas: Sequence[torch.Tensor], scales: Sequence[float], weights: Sequence[float]) -> list[torch.Tensor]:
    """Which elements of each model have the sign of the weighted sum; a sum of zero elects plus."""
    import torch

    votes = [
        d.float() * torch.tensor(s, dtype=torch.float32) * torch.tensor(w, dtype=torch.float32)
        for d, s, w in zip(deltas, scales, weights, strict=True)
    ]
    ballot = torch.zeros_like(votes[0])
    for vote in votes:
        ballot = ballot + vote
    elected = torch.where(ballot >= 0, 1.0, -1.0)
    return [torch.sign(vote) == elected for vote in votes]


class SparseStream:
    """The streaming form: the passes of the selection, one more for the norms where rescaling is asked for."""

    def __init__(self, tensor: Tensor, selection: Selection, *, elect: bool) -> None:
        from tunemerge.merge.kernels.signatures import LANES

        self._selection, self._elect = selection, elect
        self._weights = np.array(tensor.values["weight"], np.float64)
        by_density: bool = tensor.values.get("rescale_by_density", False)
        shares = tensor.values["density"] if by_density else [1.0] * tensor.n_models
        self._scales = np.array([density_factor(share) for share in shares])
        self._normalize: bool = tensor.values["normalize"]
        self._lambda: float = tensor.values["lambda"]
        self._norms = np.zeros((2, tensor.n_models, LANES))
        self._keep = np.empty((tensor.n_models, 0), np.bool_)
        self._norm_passes = int(tensor.values["rescale"] and not by_density)
        self._keeps_masks = tensor.size * tensor.n_models <= 8 * KEPT_BYTES
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self.unit: Unit = selection.unit
        self.takes_bf16 = True
        self.looks = selection.looks

    @property
    def passes(self) -> int:
        return self._selection.passes + self._norm_passes

    def look(self, block: Block) -> None:
        self._selection.look(block)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.select import add_norms

        if index < self._selection.passes:
            self._selection.scan(index, block)
        else:
            keep = self._mask(block)
            if self._keeps_masks:
                self._kept[block.start] = np.packbits(keep)
            add_norms(block.rows, block.deltas_from, block.start, keep, self._norms[0], self._norms[1])

    def finish(self, index: int) -> None:
        if index < self._selection.passes:
            self._selection.finish(index)
        else:
            before, after = self._norms.sum(axis=2)
            self._scales[:] = [rescale_factor(b, a) for b, a in zip(before, after, strict=True)]
            self._selection.restart()

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.consensus import add_agreeing, add_kept

        add = add_agreeing if self._elect else add_kept
        kept, base = self._kept.pop(block.start, None), block.deltas_from
        keep = self._mask(block) if kept is None else unpacked(kept, block.rows.shape)
        add(block.rows, base, keep, self._weights, self._scales, self._normalize, self._lambda, block.out)

    def _mask(self, block: Block) -> Masks:
        if self._keep.shape != block.rows.shape:
            self._keep = np.empty(block.rows.shape, np.bool_)
        self._selection.mask(block, self._keep)
        return self._keep


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> Masks:
    """The mask of that shape that np.packbits has made into bits."""
    return np.unpackbits(bits, count=math.prod(shape)).view(np.bool_).reshape(shape)
