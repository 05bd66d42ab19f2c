"""Model Stock (Jang et al. 2024): how far from the base to the experts' average their angles say one should go.

With N experts whose task vectors are at the angle theta, the point nearest to the centre of all such experts is at
t = N cos(theta) / (1 + (N - 1) cos(theta)) of the way. cos(theta) is the mean over all pairs, of whole tensors or
of rows (`filter_wise`). A task vector of zeros is at a right angle to all others; where the denominator vanishes, as
for two opposite task vectors, the base stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.method import Method, Stream, Tensor, register
from tunemerge.merge.parameters import Values, flag
from tunemerge.merge.span import Floats, RowSpan, WholeSpan, cosines

if TYPE_CHECKING:
    import torch

_SINGULAR = 1e-6


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """t average + (1 - t) base, with one t for the tensor or for each row."""
    import torch

    assert base is not None
    start = base.double() if values["filter_wise"] else base.double().reshape(-1)
    experts = [x.double().reshape(start.shape) for x in tensors]
    n = len(experts)
    found = []
    for i, one in enumerate(experts):
        for other in experts[i + 1 :]:
            a, b = one - start, other - start
            lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
            found.append((a * b).sum(-1, keepdim=True) / torch.where(lengths > 0, lengths, 1.0))
    cosine = torch.stack(found).clamp(-1, 1).mean(0)
    below = 1 + (n - 1) * cosine
    t = torch.where(below.abs() < _SINGULAR, 0.0, n * cosine / below)
    average = torch.stack(experts).mean(0)
    return (t * average + (1 - t) * start).reshape(base.shape)


def stream(tensor: Tensor) -> Stream:
    n = tensor.n_models
    upper = np.triu_indices(n, 1)

    def weights_of(grams: Floats) -> Floats:
        # Sorted, so that the order of the models changes no bit of the mean.
        cosine = np.sort(cosines(grams)[:, *upper], axis=1).mean(axis=1, keepdims=True)
        below = 1 + (n - 1) * cosine
        singular = np.abs(below) < _SINGULAR
        t = np.where(singular, 0.0, n * cosine / np.where(singular, 1.0, below))
        return np.repeat(t / n, n, axis=1)

    return (RowSpan if tensor.values["filter_wise"] else WholeSpan)(tensor, weights_of)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """There are two settings."""
    return [{"filter_wise": False}, {"filter_wise": True}][:k]


MODEL_STOCK = register(
    Method(
        name="model_stock",
        paper="2403.19522",
        summary="from the base towards the experts' average, as far as the angles of task vectors say",
        parameters=(flag("filter_wise", False, "an angle for each row instead of one for the tensor"),),
        base="needed",
        reference=reference,
        stream=stream,
        candidates=candidates,
        min_models=2,
        symmetric=True,
    )
)
