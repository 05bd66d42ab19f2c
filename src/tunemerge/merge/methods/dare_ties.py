"""DARE with sign election (Yu et al. 2024): drop elements of each task vector at random, then as in TIES."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.methods.dare_linear import PARAMETERS, candidates, masks
from tunemerge.merge.parameters import Values
from tunemerge.merge.selection import RandomShare
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch

NAME = "dare_ties"


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Keep each element with probability `density`, then elect and merge."""
    assert base is not None
    return combine(tensors, base, masks(base, values, NAME), values, elect=True)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, RandomShare(tensor, NAME), elect=True)


DARE_TIES = register(
    Method(
        name=NAME,
        paper="2311.03099",
        summary="drop elements of task vectors at random, rescale, elect signs, add what agrees",
        parameters=PARAMETERS,
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
        random=True,
    )
)
