"""DARE with sign election (Yu et al. 2024): drop elements of each task vector at random, then as in TIES.

As in mergekit, what is left is scaled back to the task vector's L1 norm (`rescale`), not by 1 / density: in
expectation the same, and exact in the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import INT8_MASK, LAMBDA, Values, density, flag, weight
from tunemerge.merge.random import keep_mask, stream_key
from tunemerge.merge.selection import RandomShare
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch

NAME = "dare_ties"


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Keep each element with probability `density`, then elect and merge."""
    import torch

    assert base is not None
    masks = []
    for model, share in enumerate(values["density"]):
        key = stream_key(values["seed"], NAME, model, values["name"])
        masks.append(torch.from_numpy(keep_mask(key, base.numel(), share)).reshape(base.shape))
    return combine(tensors, base, masks, values, elect=True)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, RandomShare(tensor, NAME), elect=True)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale (the weight on each task vector) and density."""
    scales, densities = [0.4, 0.7, 1.0, 0.3, 0.5], [0.5, 0.8, 0.2, 0.1]
    return [{"weight": scale, "density": share} for scale, share in pairs(scales, densities, k)]


DARE_TIES = register(
    Method(
        name=NAME,
        paper="2311.03099",
        summary="drop elements of task vectors at random, rescale, elect signs, add what agrees",
        parameters=(
            weight(0.4, "weight of each task vector"),
            density(1.0, "share of each task vector that is kept, at random"),
            flag("normalize", False, "divide by the weights that agree"),
            flag("rescale", True, "scale task vectors back to their L1 norm"),
            LAMBDA,
            INT8_MASK,
        ),
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
        random=True,
    )
)
