"""SCE (Wan et al. 2024, FuseChat): select the elements in which models differ most, calculate, erase.

Select the share of largest variance over models; weigh each model by the mean square of what is selected; leave out
what has not the elected sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import Array
from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Tensor, Unit, register
from tunemerge.merge.parameters import INT8_MASK, Parameter, Values
from tunemerge.merge.sampled import SampledRanks, Window

if TYPE_CHECKING:
    import torch

_LEAST = 1e-6


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Select by variance, weigh by squares, erase minorities; variances and signs are decided in float32."""
    import torch

    assert base is not None
    deltas = torch.stack([x.double() - base.double() for x in tensors])
    if values["select_topk"] < 1:
        decisive = deltas.float().double()
        variance = (decisive - decisive.mean(dim=0)).square().mean(dim=0).float().flatten()
        count = int(int(variance.count_nonzero()) * values["select_topk"])
        mask = torch.zeros_like(variance, dtype=torch.bool)
        mask[variance.sort(descending=True, stable=True).indices[:count]] = True
        deltas = deltas * mask.reshape(base.shape)
    squares = deltas.square().reshape(len(deltas), base.numel()).sum(dim=1) / max(base.numel(), 1)
    uniform = torch.full_like(squares, 1 / len(squares))
    weights = squares / squares.sum() if squares.sum() >= _LEAST else uniform
    ballot = torch.zeros(base.shape, dtype=torch.float32)
    for delta in deltas:
        ballot = ballot + delta.float()
    agrees = deltas.float().sign() == torch.where(ballot >= 0, 1.0, -1.0)
    shares = weights.reshape(-1, *[1] * base.ndim) * agrees
    return base.double() + (shares * deltas).sum(dim=0) / shares.sum(dim=0).clamp(min=_LEAST)


class SceStream:
    """The passes of the ranks of variance, where not all elements stay, and one for the weights.

    Where a sample tells nearly where the threshold is, one pass does for both: what is above all doubt is weighed at
    once, what is in doubt afterwards.
    """

    unit: Unit = "element"
    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        from tunemerge.merge.kernels.signatures import LANES

        self._share: float = tensor.values["select_topk"]
        self._size = tensor.size
        self._ranks = SampledRanks(1, 1, tensor.size)
        self._nonzero = 0
        self._lanes = np.zeros((tensor.n_models, LANES))
        self._counted, self._near = np.zeros(3, np.int64), np.empty((tensor.n_models, 0))
        self._weighed = False
        self._weights = np.zeros(tensor.n_models)
        self._variance, self._zeros = np.empty((1, 0), np.float32), np.zeros(0, np.float32)
        self._keep = np.ones((1, 0), np.bool_)
        self.looks = self._share < 1 and self._ranks.looks

    @property
    def passes(self) -> int:
        return self._selecting + (not self._weighed)

    @property
    def _selecting(self) -> int:
        return self._ranks.passes if self._share < 1 else 0

    def look(self, block: Block) -> None:
        self._ranks.look(self._variances(block), self._zeros)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.sce import add_squares

        if index < self._selecting:
            if index == 0 and self._ranks.looked:
                self._ranks.aim([[self._share]], of_moved=True)
            if self._ranks.window:
                self._survey(block, self._ranks.window)
                return
            variance = self._variances(block)
            self._nonzero += int(np.count_nonzero(variance)) if index == 0 else 0
            self._ranks.scan(variance, self._zeros)
        else:
            add_squares(block.rows, block.deltas_from, self._mask(block), self._lanes)

    def finish(self, index: int) -> None:
        if index >= self._selecting:
            self._weigh(self._lanes.sum(axis=1))
        else:
            window = self._ranks.window
            if window:
                self._nonzero, window.above[:], window.filled[:] = (int(n) for n in self._counted)
            self._ranks.finish([[int(self._nonzero * self._share)]])
            if window:
                self._settle(window)
        self._spares = self._ranks.spares.copy()

    def _survey(self, block: Block, window: Window) -> None:
        from tunemerge.merge.kernels.sce import survey

        if not self._near.size:
            self._near = np.empty((len(self._near), window.inside.shape[1]))
        variance, (first, width) = self._variances(block)[0], (window.firsts[0, 0], window.widths[0, 0])
        inside, base = window.inside[0], block.deltas_from
        survey(block.rows, base, variance, first, width, self._counted, inside, self._near, self._lanes)

    def _settle(self, window: Window) -> None:
        """Weigh, if the threshold is in the window; else a pass of its own will."""
        from tunemerge.merge.kernels.sce import add_near

        threshold, spare = self._ranks.thresholds[0, 0], self._ranks.spares[0, 0]
        self._weighed = self._ranks.passes == 1 and bool(threshold - window.firsts[0, 0] < window.widths[0, 0])
        if self._weighed:
            held = int(window.filled[0, 0])
            squares = self._lanes.sum(axis=1)
            add_near(window.inside[0, :held], self._near, threshold, spare, squares)
            self._weigh(squares)
        self._lanes[:] = 0
        self._near = np.empty((len(self._near), 0))

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.sce import add_elected

        add_elected(block.rows, block.deltas_from, self._mask(block), self._weights, _LEAST, block.out)

    def _weigh(self, squares: NDArray[np.float64]) -> None:
        means = squares / max(self._size, 1)
        total = float(means.sum())
        self._weights[:] = means / total if total >= _LEAST else 1 / means.size

    def _variances(self, block: Block) -> Array:
        """(1, length), in a buffer that the next call fills again."""
        from tunemerge.merge.kernels.sce import variances

        self._room(block.out.size)
        variances(block.rows, block.deltas_from, self._variance[0])
        return self._variance

    def _mask(self, block: Block) -> Array:
        """(length,) what is selected."""
        from tunemerge.merge.kernels.select import mask_ranked

        if self._share < 1:
            variance = self._variances(block)
            mask_ranked(variance, self._zeros, self._ranks.thresholds, self._spares, self._keep)
        else:
            self._room(block.out.size)
        return self._keep[0]

    def _room(self, length: int) -> None:
        if self._keep.shape[1] != length:
            self._variance, self._zeros = np.empty((1, length), np.float32), np.zeros(length, np.float32)
            self._keep = np.ones((1, length), np.bool_)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """The share that is selected; the paper takes a tenth."""
    shares = [0.1, 0.5, 1.0, 0.2, 0.05, 0.8, 0.3, 0.7, 0.02, 0.9]
    return [{"select_topk": share} for share in spread(shares, 0.0, 1.0, k)]


SCE = register(
    Method(
        name="sce",
        paper="2408.07990",
        summary="select what varies most between task vectors, weigh by their squares, erase minority signs",
        parameters=(
            Parameter("select_topk", "number", 1.0, "share of the varying elements that is kept", low=0.0, high=1.0),
            INT8_MASK,
        ),
        base="needed",
        reference=reference,
        stream=SceStream,
        candidates=candidates,
        version=2,
    )
)
