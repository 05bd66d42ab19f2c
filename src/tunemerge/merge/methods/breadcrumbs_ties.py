"""Model Breadcrumbs (Davari and Belilovsky 2024) with the sign election of TIES."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.methods.breadcrumbs import PARAMETERS, candidates, masks, selection
from tunemerge.merge.parameters import Values
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Keep the middle of each task vector, then elect and merge."""
    assert base is not None
    return combine(tensors, base, masks(tensors, base, values), values, elect=True)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, selection(tensor), elect=True)


BREADCRUMBS_TIES = register(
    Method(
        name="breadcrumbs_ties",
        paper="2312.06795",
        summary="drop the smallest and the very largest elements of task vectors, elect signs, add what agrees",
        parameters=PARAMETERS,
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
    )
)
