"""Arcee Fusion: take from one model the weights whose change is important, leave the base elsewhere.

A weight's importance is |model - base| times the Kullback-Leibler divergence of its row's softmax from the base's.
Taken is what reaches median + 1.5 x (third quartile - first quartile) of the tensor's importances, the bound beyond
which box plots draw outliers. Quartiles are exact, at ranks rounded down. Importances are float32 numbers, products
of the difference and the divergence, each rounded to float32; divergences are summed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.method import Block, Method, Tensor, Unit, register
from tunemerge.merge.parameters import Values
from tunemerge.merge.ranks import Ranks

if TYPE_CHECKING:
    import torch

_EPS = 1e-8
"""Added to every probability."""


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Importances, their quartiles by sorting, and the choice."""
    import torch

    assert base is not None
    start, model = base.double(), tensors[0].double()
    if not start.numel():
        return start
    p, q = (torch.softmax(x, dim=-1) + _EPS for x in (model, start))
    divergence = (p * torch.log(p / q)).sum(-1, keepdim=True).clamp(min=0)
    importance = (model - start).float().abs() * divergence.float()
    ranked = importance.flatten().sort().values
    last = ranked.numel() - 1
    first, median, third = (ranked[last * quarter // 4] for quarter in (1, 2, 3))
    threshold = median + 1.5 * (third - first)
    return torch.where(importance >= threshold, model, start)


class FusionStream:
    """Two passes for the quartiles, the first also for the divergences: one number a row is kept."""

    passes = 2
    unit: Unit = "row"
    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        self._columns, self._size = tensor.columns, tensor.size
        self._divergence = np.zeros(tensor.rows, np.float32)
        self._ranks = Ranks(rows=1, cuts=3)
        self._places = [self._size - (self._size - 1) * quarter // 4 for quarter in (1, 2, 3)]
        self._least, self._threshold = np.float32(np.inf), np.float32(0)
        self._importance = np.empty(0, np.float32)
        self._zeros = np.zeros(0, np.float32)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.divergence import row_divergences

        if index == 0:
            row_divergences(block.rows, block.deltas_from, self._columns, _EPS, self._divergence_of(block))
        importance = self._importance_of(block)
        self._ranks.count(index, importance[None], self._zeros[: importance.size])
        if index == 0:
            self._least = min(self._least, importance.min())

    def finish(self, index: int) -> None:
        if index == 0:
            self._ranks.narrow([self._places], self._size)
        else:
            self._ranks.settle()
            # Ranks doesn't look for the smallest of all, which is the first quartile of four or fewer.
            smallest = np.equal(self._places, self._size)
            first, median, third = np.where(smallest, self._least, self._ranks.thresholds[0].view(np.float32))
            self._threshold = median + np.float32(1.5) * (third - first)

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.divergence import take_important

        take_important(block.rows, block.deltas_from, self._importance_of(block), self._threshold, block.out)

    def _divergence_of(self, block: Block) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        row = block.start // self._columns
        return self._divergence[row : row + block.out.size // self._columns]

    def _importance_of(self, block: Block) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        from tunemerge.merge.kernels.divergence import importances

        if self._importance.size < block.out.size:
            self._importance = np.empty(block.out.size, np.float32)
            self._zeros = np.zeros(block.out.size, np.float32)
        out = self._importance[: block.out.size]
        importances(block.rows, block.deltas_from, self._columns, self._divergence_of(block), out)
        return out


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """There is nothing to set."""
    return [{}]


ARCEE_FUSION = register(
    Method(
        name="arcee_fusion",
        paper="https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md",
        summary="takes from one model the weights whose change is an outlier in importance",
        parameters=(),
        base="needed",
        reference=reference,
        stream=FusionStream,
        candidates=candidates,
        max_models=1,
    )
)
