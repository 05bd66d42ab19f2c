"""DARE (Yu et al. 2024): drop elements of each task vector at random, rescale what is left, add it up.

The paper divides by the density (`rescale_by_density`), which keeps the expectation of every element. The default is
mergekit's: back to the task vector's L1 norm (`rescale`), in expectation the same and exact in the norm.
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

NAME = "dare_linear"

PARAMETERS = (
    weight(0.4, "weight of each task vector"),
    density(1.0, "share of each task vector that is kept, at random"),
    flag("normalize", False, "divide by the weights that take part"),
    flag("rescale", True, "scale task vectors back to their L1 norm"),
    flag("rescale_by_density", False, "scale by 1 / density as the paper does, whatever rescale says"),
    LAMBDA,
    INT8_MASK,
)


def masks(base: torch.Tensor, values: Values, name: str) -> list[torch.Tensor]:
    """Each element stays with probability `density`."""
    import torch

    out = []
    for model, share in enumerate(values["density"]):
        key = stream_key(values["seed"], name, model, values["name"])
        out.append(torch.from_numpy(keep_mask(key, base.numel(), share)).reshape(base.shape))
    return out


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """base + lambda * sum of weight * rescaled rest of each task vector."""
    assert base is not None
    return combine(tensors, base, masks(base, values, NAME), values, elect=False)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, RandomShare(tensor, NAME), elect=False)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale (the weight on each task vector) and density."""
    scales, densities = [0.4, 0.7, 1.0, 0.3, 0.5], [0.5, 0.8, 0.2, 0.1]
    return [{"weight": scale, "density": share} for scale, share in pairs(scales, densities, k)]


DARE_LINEAR = register(
    Method(
        name=NAME,
        paper="2311.03099",
        summary="drop elements of task vectors at random, rescale, add up",
        parameters=PARAMETERS,
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
        random=True,
    )
)
