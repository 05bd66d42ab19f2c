"""MagMax (Marczak et al. 2024): of every element the delta of largest magnitude.

base + lambda * max-by-magnitude of the task vectors. The paper leaves ties open: of two opposite deltas of one
magnitude the positive one wins, so that the order of the models doesn't matter. Magnitudes are compared as exact
differences (float64). The paper's lambda is 0.5 throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import LAMBDA, Values

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Highest and lowest delta of every element: the farther from zero is taken, the highest where both are as far."""
    import torch

    assert base is not None
    deltas = torch.stack([x.double() - base.double() for x in tensors])
    highest, lowest = deltas.amax(dim=0), deltas.amin(dim=0)
    return base.double() + values["lambda"] * torch.where(highest >= -lowest, highest, lowest)


class MagmaxStream(Single):
    """One comparison a model and element."""

    def __init__(self, tensor: Tensor) -> None:
        self._scale: float = tensor.values["lambda"]

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.magmax import add_largest

        add_largest(block.rows, block.deltas_from, self._scale, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scales; the paper's first."""
    return [{"lambda": scale} for scale in spread([0.5, 1.0, 0.7, 0.3, 0.85, 0.15], 0.0, 1.5, k)]


MAGMAX = register(
    Method(
        name="magmax",
        paper="2407.06322",
        summary="of every element the delta of largest magnitude",
        parameters=(replace(LAMBDA, default=0.5),),
        base="needed",
        reference=reference,
        stream=MagmaxStream,
        candidates=candidates,
        symmetric=True,
    )
)
