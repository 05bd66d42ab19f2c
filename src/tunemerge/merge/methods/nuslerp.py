"""Spherical interpolation by weights, of whole tensors, rows or columns, of models or of their task vectors.

The shares are weight / sum of weights, one half each where the weights cancel. Vectors that float32 can't tell from
parallel or opposite ones are interpolated linearly; a vector of zeros counts as being at a right angle to any other.
With a base, task vectors are interpolated and added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Method, Stream, Tensor, register
from tunemerge.merge.parameters import Values, flag, weight
from tunemerge.merge.span import ColumnSpan, Floats, RowSpan, WholeSpan, cosines

if TYPE_CHECKING:
    import torch

_COLLINEAR = 2.0**-24
_NO_SUM = 1e-6


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """(sin((1 - t) angle) a + sin(t angle) b) / sin(angle), vector by vector."""
    import torch

    start = torch.zeros_like(tensors[0], dtype=torch.float64) if base is None else base.double()
    a, b = (x.double() - start for x in tensors)
    if values["nuslerp_flatten"]:
        a, b = a.reshape(-1), b.reshape(-1)
    # The axis of the vectors: along the first dimension for "row_wise", which is mergekit's name for it.
    axis = 0 if values["nuslerp_row_wise"] and not values["nuslerp_flatten"] else -1
    t = _shares(values)[1]
    lengths = a.norm(dim=axis, keepdim=True) * b.norm(dim=axis, keepdim=True)
    cosine = ((a * b).sum(axis, keepdim=True) / torch.where(lengths > 0, lengths, 1.0)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    collinear = 1 - cosine**2 <= _COLLINEAR
    return start + torch.where(collinear, (1 - t) * a + t * b, arc).reshape(start.shape)


def stream(tensor: Tensor) -> Stream:
    shares = np.array(_shares(tensor.values))

    def weights_of(grams: Floats) -> Floats:
        cosine = cosines(grams)[:, 0, 1, None]
        collinear = 1 - cosine**2 <= _COLLINEAR
        angle = np.arccos(np.where(collinear, 0.0, cosine))
        return np.where(collinear, shares, np.sin(shares * angle) / np.sin(angle))

    if tensor.values["nuslerp_flatten"] or len(tensor.shape) < 2:
        return WholeSpan(tensor, weights_of)
    return (ColumnSpan if tensor.values["nuslerp_row_wise"] else RowSpan)(tensor, weights_of)


def _shares(values: Values) -> tuple[float, float]:
    first, second = values["weight"]
    total = first + second
    return (0.5, 0.5) if abs(total) < _NO_SUM else (first / total, second / total)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Half way, then towards either side."""
    shares = spread([0.5, 0.3, 0.7, 0.4, 0.6, 0.2, 0.8, 0.1, 0.9], 0.0, 1.0, k)
    return [{"weight": [1 - share, share]} for share in shares]


NUSLERP = register(
    Method(
        name="nuslerp",
        paper="10.1145/325334.325242",
        summary="spherical interpolation of two models or task vectors, by weights",
        parameters=(
            weight(1.0, "share of each model"),
            flag("nuslerp_flatten", True, "a tensor is one vector; if not, each of its rows is one"),
            flag("nuslerp_row_wise", False, "without flatten, vectors go along the first dimension, not the last"),
        ),
        base="optional",
        reference=reference,
        stream=stream,
        candidates=candidates,
        min_models=2,
        max_models=2,
        symmetric=True,
    )
)
