"""Model Breadcrumbs (Davari and Belilovsky 2024): drop the smallest and the very largest of each task vector, add up.

As in mergekit, `density` is the share that stays and `gamma` the share of the largest that goes; the paper's beta is
1 - density - gamma.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import INT8_MASK, LAMBDA, Parameter, Values, density, flag, weight
from tunemerge.merge.selection import Ranked, middle_counts
from tunemerge.merge.sparse import SparseStream, combine

if TYPE_CHECKING:
    import torch

PARAMETERS = (
    weight(0.4, "weight of each task vector"),
    density(1.0, "share of each task vector that is kept: the middle, by magnitude"),
    Parameter(
        "gamma",
        "number",
        0.01,
        "share of the largest elements that is dropped, or less where density leaves no room; none at density 1",
        per_model=True,
        low=0.0,
        high=1.0,
    ),
    flag("normalize", False, "divide by the weights that take part"),
    flag("rescale", False, "scale task vectors back to their L1 norm"),
    LAMBDA,
    INT8_MASK,
)


def masks(tensors: Sequence[torch.Tensor], base: torch.Tensor, values: Values) -> list[torch.Tensor]:
    """In order of magnitude, the largest first, skip the share gamma and keep the share density."""
    import torch

    out = []
    for x, share, gamma in zip(tensors, values["density"], values["gamma"], strict=True):
        magnitude = (x.double() - base.double()).float().abs().flatten()
        largest_first = magnitude.sort(descending=True, stable=True).indices
        stay = int(share * magnitude.numel())
        skip = min(int(gamma * magnitude.numel()), magnitude.numel() - stay)
        mask = torch.zeros(magnitude.shape, dtype=torch.bool)
        mask[largest_first[skip : skip + stay]] = True
        out.append(mask.reshape(base.shape))
    return out


def selection(tensor: Tensor) -> Ranked:
    shares = zip(tensor.values["density"], tensor.values["gamma"], strict=True)
    return Ranked([middle_counts(share, gamma, tensor.size) for share, gamma in shares], tensor.size)


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """base + lambda * sum of weight * middle of each task vector."""
    assert base is not None
    return combine(tensors, base, masks(tensors, base, values), values, elect=False)


def stream(tensor: Tensor) -> SparseStream:
    return SparseStream(tensor, selection(tensor), elect=False)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale and density; first the paper's for many tasks: 0.3, and all but the 85% smallest."""
    scales, densities = [0.3, 0.5, 0.7, 1.0, 0.4], [0.15, 0.5, 0.9, 0.3]
    return [{"weight": scale, "density": share} for scale, share in pairs(scales, densities, k)]


BREADCRUMBS = register(
    Method(
        name="breadcrumbs",
        paper="2312.06795",
        summary="drop the smallest and the very largest elements of task vectors, add up",
        parameters=PARAMETERS,
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
    )
)
