"""DELLA (Deep et al. 2024): drop elements of each task vector at random, small ones more often, then as in TIES.

The probability to stay is linear in the rank of |delta| within the row (the last dimension; a vector is one row). As
in mergekit, what is left is scaled back to the task vector's L1 norm; the paper divides by each probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import INT8_MASK, LAMBDA, Parameter, Values, density, flag, weight
from tunemerge.merge.random import draws, rank_thresholds, stream_key
from tunemerge.merge.selection import RandomByRank
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch

NAME = "della"


def parameters(normalize: bool) -> tuple[Parameter, ...]:
    return (
        weight(0.4, "weight of each task vector"),
        density(1.0, "share of each task vector that is kept, at random"),
        Parameter(
            "epsilon",
            "number",
            0.15,
            "the largest of a row stay with probability density + epsilon, the smallest with density - epsilon",
            per_model=True,
            low=0.0,
            high=0.5,
        ),
        flag("normalize", normalize, "divide by the weights that take part"),
        flag("rescale", True, "scale task vectors back to their L1 norm"),
        LAMBDA,
        INT8_MASK,
    )


def refuses_values(values: Values) -> str | None:
    """Probabilities must lie between 0 and 1, both excluded, unless nothing or everything is kept."""
    for share, epsilon in zip(values["density"], values["epsilon"], strict=True):
        if 0 < share < 1 and not (share - epsilon > 0 and share + epsilon < 1):
            room = min(share, 1 - share)
            return (
                f"density {share:g} with epsilon {epsilon:g} gives probabilities from {share - epsilon:g} to "
                f"{share + epsilon:g}; choose an epsilon below {room:g}, or density 0 or 1"
            )
    return None


def masks(tensors: Sequence[torch.Tensor], base: torch.Tensor, values: Values, name: str) -> list[torch.Tensor]:
    """Rank each row by magnitude, equal ones by position, and draw with the probability of the rank."""
    import torch

    columns = base.shape[-1] if base.ndim else 1
    out = []
    for model, (x, share, epsilon) in enumerate(zip(tensors, values["density"], values["epsilon"], strict=True)):
        magnitude = (x.double() - base.double()).float().abs().reshape(-1, max(columns, 1))
        smallest_first = magnitude.sort(dim=1, stable=True).indices
        rank = smallest_first.argsort(dim=1)
        drawn = draws(stream_key(values["seed"], name, model, values["name"]), base.numel()).reshape(magnitude.shape)
        keep = drawn < rank_thresholds(share, epsilon, columns)[rank.numpy()]
        out.append(torch.from_numpy(keep).reshape(base.shape))
    return out


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Drop by rank, then elect and merge."""
    assert base is not None
    return combine(tensors, base, masks(tensors, base, values, NAME), values, elect=True)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, RandomByRank(tensor, NAME), elect=True)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale on the merged task vector and density, with the usual epsilon."""
    scales, densities = [1.0, 0.7, 1.5, 0.4, 2.0], [0.5, 0.7, 0.3, 0.2]
    return [{"lambda": scale, "density": share} for scale, share in pairs(scales, densities, k)]


DELLA = register(
    Method(
        name=NAME,
        paper="2406.11617",
        summary="drop elements of task vectors at random, small ones more often, elect signs, average what agrees",
        parameters=parameters(normalize=True),
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
        refuses_values=refuses_values,
        random=True,
    )
)
