"""TIES (Yadav et al. 2023): trim each task vector, elect a sign an element, average those that agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import INT8_MASK, LAMBDA, Values, density, flag, weight
from tunemerge.merge.selection import Ranked, largest_count
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Trim to the share `density` of largest magnitude, at least one element, then elect and merge."""
    import torch

    assert base is not None
    masks = []
    for x, share in zip(tensors, values["density"], strict=True):
        magnitude = (x.double() - base.double()).float().abs().flatten()
        largest_first = magnitude.sort(descending=True, stable=True).indices
        mask = torch.zeros(magnitude.shape, dtype=torch.bool)
        count = max(1, int(share * magnitude.numel())) if share > 0 else 0
        mask[largest_first[:count]] = True
        masks.append(mask.reshape(base.shape))
    return combine(tensors, base, masks, values, elect=True)


def stream(tensor: Tensor) -> SparseStream:
    counts = [(largest_count(share, tensor.size),) for share in tensor.values["density"]]
    return SparseStream(tensor, Ranked(counts, tensor.size), elect=True)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale and density; first the paper's advice where nothing can be validated: scale 1, the top 20%."""
    scales, densities = [1.0, 0.7, 1.5, 0.4, 2.0], [0.2, 0.5, 0.8, 0.1]
    return [{"lambda": scale, "density": share} for scale, share in pairs(scales, densities, k)]


TIES = register(
    Method(
        name="ties",
        paper="2306.01708",
        summary="trim task vectors, elect signs, average what agrees",
        parameters=(
            weight(1.0, "weight of each task vector"),
            density(1.0, "share of each task vector that is kept, by magnitude"),
            flag("normalize", True, "divide by the weights that agree"),
            flag("rescale", False, "scale trimmed task vectors back to their L1 norm"),
            LAMBDA,
            INT8_MASK,
        ),
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
    )
)
