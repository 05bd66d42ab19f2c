"""Weighted mean of directions on a sphere, for any number of models (Goddard 2025).

The models' directions are mapped onto the plane that touches the sphere at their normalised weighted mean, averaged
there with the same weights, and mapped back; the result gets the weighted mean of their lengths. The average in that
plane is zero whatever the models, for the weighted mean is where the plane touches. So the streaming form takes the
mean itself. Where directions cancel, or all tensors are zero, weights are averaged instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import tilted
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import Parameter, Values, flag, weight
from tunemerge.merge.span import Floats, WholeSpan

if TYPE_CHECKING:
    import torch

_CANCELLED = 1e-4


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """One step of the tangent plane at the weighted mean, and back by the exponential map."""
    import torch

    start = torch.zeros_like(tensors[0], dtype=torch.float64) if base is None else base.double()
    weights, eps = _weights(values), values["eps"]
    deltas = [x.double() - start for x in tensors]
    if len(deltas) == 1:
        return start + deltas[0]
    lengths = [d.norm() for d in deltas]
    units = [d / (n + eps) if n > 0 else d for d, n in zip(deltas, lengths, strict=True)]
    mean = sum((w * u for w, u in zip(weights, units, strict=True)), torch.zeros_like(start))
    if _no_direction(float(mean.norm()), weights, eps):
        return start + sum(w * d for w, d in zip(weights, deltas, strict=True))
    mean = mean / mean.norm()
    tangent = sum(
        (w * (u - (u * mean).sum() * mean) for w, u in zip(weights, units, strict=True)), torch.zeros_like(start)
    )
    step = tangent.norm() + eps
    direction = torch.cos(step) * mean + (torch.sin(step) / step if step > 0 else 1.0) * tangent
    return start + sum(w * n for w, n in zip(weights, lengths, strict=True)) * direction


def stream(tensor: Tensor) -> WholeSpan:
    weights, eps = _weights(tensor.values), tensor.values["eps"]

    def weights_of(grams: Floats) -> Floats:
        return np.array([_combination(gram, weights, eps) for gram in grams]).reshape(-1, len(weights))

    return WholeSpan(tensor, weights_of)


def _combination(gram: Floats, weights: list[float], eps: float) -> list[float]:
    """What to take of each model. Sums are exactly rounded, so the order of the models doesn't matter."""
    if len(weights) == 1:
        return [1.0]
    lengths = [math.sqrt(x) for x in gram.diagonal()]
    parts = [w / (n + eps) if n > 0 else 0.0 for w, n in zip(weights, lengths, strict=True)]
    square = math.fsum((np.outer(parts, parts) * gram).ravel())
    mean = math.sqrt(max(square, 0.0))
    if _no_direction(mean, weights, eps):
        return weights
    length = math.fsum(w * n for w, n in zip(weights, lengths, strict=True))
    return [length * part / mean for part in parts]


def _no_direction(mean: float, weights: list[float], eps: float) -> bool:
    """Whether the weighted sum of directions is too short to be one."""
    return mean <= max(eps, _CANCELLED * math.fsum(abs(w) for w in weights))


def _weights(values: Values) -> list[float]:
    total = math.fsum(values["weight"]) if values["normalize_weights"] else 1.0
    return [w / total for w in values["weight"]]


def refuses_values(values: Values) -> str | None:
    if values["normalize_weights"] and abs(math.fsum(values["weight"])) < 1e-8:
        return "the weights add up to zero and can't be normalised; change one, or set normalize_weights: false"
    return None


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Equal weights, then each model in turn with more."""
    return [{"weight": weights} for weights in tilted(n_models, k)]


MULTISLERP = register(
    Method(
        name="multislerp",
        paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        summary="weighted mean of directions, at the weighted mean of lengths",
        parameters=(
            weight(1.0, "share of each model"),
            flag("normalize_weights", True, "divide by the sum of the weights"),
            Parameter("eps", "number", 1e-8, "added to lengths before dividing by them", low=0.0, high=1.0),
        ),
        base="optional",
        reference=reference,
        stream=stream,
        candidates=candidates,
        refuses_values=refuses_values,
        symmetric=True,
    )
)
