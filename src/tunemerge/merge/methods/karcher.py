"""Karcher mean: the direction whose squared angles to the models' directions have the least weighted sum.

It is found by steps of gradient descent on the sphere from the normalised mean (Karcher 1977), and gets the weighted
mean of the models' lengths. Every iterate is a weighted sum of the models, so the steps need only their Gram matrix.
A tensor not longer than `tol` has no direction, a model closer than `tol` to the mean or to its opposite does not pull.
Where directions cancel, the descent begins at the longest model. Where no tensor has a direction, weights are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import tilted
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import Parameter, Values
from tunemerge.merge.span import Floats, WholeSpan, cosines

if TYPE_CHECKING:
    import torch

_OPPOSITE = 1e-5
"""No direction leads to a vector that is nearer than this to the opposite, whatever `tol`."""


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Add up the logarithms of all units at the mean, and follow their sum along the sphere."""
    import torch

    tol = values["tol"]
    shares = [w / sum(values["weight"]) for w in values["weight"]]
    vectors = [x.double().reshape(-1) for x in tensors]
    length = sum(s * x.norm() for s, x in zip(shares, vectors, strict=True))
    pulling = [(s, x / x.norm(), x.norm()) for s, x in zip(shares, vectors, strict=True) if s > 0 and x.norm() > tol]
    if not pulling:
        return torch.stack([s * x.double() for s, x in zip(shares, tensors, strict=True)]).sum(0)
    total = sum(s for s, _, _ in pulling)
    mean = torch.stack([s / total * unit for s, unit, _ in pulling]).sum(0)
    if mean.norm() < tol:
        mean = max(pulling, key=lambda part: float(part[2]))[1]
    mean = mean / mean.norm()
    for _ in range(values["max_iter"]):
        tangent = torch.zeros_like(mean)
        for s, unit, _ in pulling:
            cosine = torch.dot(mean, unit).clamp(-1, 1)
            angle = torch.arccos(cosine)
            if tol <= angle <= math.pi - max(tol, _OPPOSITE):
                tangent += s / total * angle / torch.sin(angle) * (unit - cosine * mean)
        step = tangent.norm()
        if step < tol:
            break
        mean = torch.cos(step) * mean + torch.sin(step) * tangent / step
        mean = mean / mean.norm()
    return (length * mean).reshape(tensors[0].shape)


def stream(tensor: Tensor) -> WholeSpan:
    values = tensor.values

    def weights_of(grams: Floats) -> Floats:
        return np.array([_combination(gram, values) for gram in grams]).reshape(-1, len(values["weight"]))

    return WholeSpan(tensor, weights_of)


def _combination(gram: Floats, values: Values) -> list[float]:
    """What to take of each model. Sums are exactly rounded, so the order of the models doesn't matter."""
    tol, n = values["tol"], len(gram)
    total = math.fsum(values["weight"])
    shares = [w / total for w in values["weight"]]
    lengths = [math.sqrt(x) for x in gram.diagonal()]
    length = math.fsum(s * x for s, x in zip(shares, lengths, strict=True))
    pulling = [i for i in range(n) if shares[i] > 0 and lengths[i] > tol]
    if not pulling:
        return shares
    units = cosines(gram[None])[0]
    total = math.fsum(shares[i] for i in pulling)
    pull = np.array([shares[i] / total if i in pulling else 0.0 for i in range(n)])
    mean = pull.copy()
    if _norm(mean, units) < tol:
        mean = np.zeros(n)
        mean[max(pulling, key=lambda i: lengths[i])] = 1.0
    mean /= _norm(mean, units)
    for _ in range(values["max_iter"]):
        tangent = np.zeros(n)
        along = []
        for i in pulling:
            cosine = min(max(math.fsum(mean * units[i]), -1.0), 1.0)
            angle = math.acos(cosine)
            if tol <= angle <= math.pi - max(tol, _OPPOSITE):
                tangent[i] = pull[i] * angle / math.sin(angle)
                along.append(tangent[i] * cosine)
        tangent -= math.fsum(along) * mean
        step = _norm(tangent, units)
        if step < tol:
            break
        mean = math.cos(step) * mean + math.sin(step) / step * tangent
        mean /= _norm(mean, units)
    return [length * c / x if x > 0 else 0.0 for c, x in zip(mean, lengths, strict=True)]


def _norm(combination: Floats, units: Floats) -> float:
    return math.sqrt(max(math.fsum((np.outer(combination, combination) * units).ravel()), 0.0))


def refuses_values(values: Values) -> str | None:
    return None if sum(values["weight"]) > 0 else "all weights are zero; give at least one model a share"


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Equal weights, then each model in turn with more."""
    return [{"weight": weights} for weights in tilted(n_models, k)]


KARCHER = register(
    Method(
        name="karcher",
        paper="2603.04972",
        summary="mean direction on the sphere (Karcher mean), at the weighted mean of lengths",
        parameters=(
            Parameter("weight", "number", 1.0, "share of each model", per_model=True, low=0.0),
            Parameter("max_iter", "integer", 10, "most steps", low=0, high=10_000),
            Parameter("tol", "number", 1e-5, "a step or an angle below this is none", low=1e-12, high=0.1),
        ),
        base="no",
        reference=reference,
        stream=stream,
        candidates=candidates,
        refuses_values=refuses_values,
        symmetric=True,
    )
)
