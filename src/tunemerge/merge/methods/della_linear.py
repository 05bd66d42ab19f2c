"""DELLA (Deep et al. 2024) without the election: drop elements at random, small ones more often, and add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.methods.della import masks, parameters, refuses_values
from tunemerge.merge.parameters import Values
from tunemerge.merge.selection import RandomByRank
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch

NAME = "della_linear"


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Drop by rank, then add up."""
    assert base is not None
    return combine(tensors, base, masks(tensors, base, values, NAME), values, elect=False)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, RandomByRank(tensor, NAME), elect=False)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale (the weight on each task vector) and density, with the usual epsilon."""
    scales, densities = [0.4, 0.7, 1.0, 0.3, 0.5], [0.5, 0.7, 0.3, 0.2]
    return [{"weight": scale, "density": share} for scale, share in pairs(scales, densities, k)]


DELLA_LINEAR = register(
    Method(
        name=NAME,
        paper="2406.11617",
        summary="drop elements of task vectors at random, small ones more often, add up",
        parameters=parameters(normalize=False),
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
        refuses_values=refuses_values,
        random=True,
    )
)
