"""Spherical interpolation between two models, tensor by tensor (Shoemake 1985)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Tensor, Unit, register
from tunemerge.merge.parameters import Parameter, Values

if TYPE_CHECKING:
    import torch

_COLLINEAR = 0.9995
_TINY = 1e-8


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Interpolate along the arc between the directions of both tensors, applied to the tensors as they are."""
    import torch

    t = values["t"]
    a, b = (x.double() for x in tensors)
    unit_a, unit_b = (x / x.norm() if x.norm() > _TINY else x for x in (a, b))
    cosine = (unit_a * unit_b).sum()
    if cosine.abs() > _COLLINEAR:
        return (1 - t) * a + t * b
    angle = torch.arccos(cosine)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


class SlerpStream:
    """One pass for the angle, one for the weighted sum."""

    passes = 1
    unit: Unit = "element"
    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        from tunemerge.merge.kernels.signatures import LANES

        self._t: float = tensor.values["t"]
        self._dots = np.zeros((3, LANES))
        self._weights = np.zeros(2)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.sums import add_gram

        add_gram(block.rows, self._dots)

    def finish(self, index: int) -> None:
        aa, ab, bb = (float(x) for x in self._dots.sum(axis=1))
        norms = [math.sqrt(x) if math.sqrt(x) > _TINY else 1.0 for x in (aa, bb)]
        cosine = ab / (norms[0] * norms[1])
        if abs(cosine) > _COLLINEAR:
            self._weights[:] = 1 - self._t, self._t
        else:
            angle = math.acos(cosine)
            self._weights[:] = math.sin((1 - self._t) * angle), math.sin(self._t * angle)
            self._weights /= math.sin(angle)

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.signatures import CHUNK
        from tunemerge.merge.kernels.sums import weighted_sum

        weighted_sum(block.rows, self._weights, np.empty(CHUNK), block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Half way, then towards either side."""
    return [{"t": t} for t in spread([0.5, 0.3, 0.7, 0.4, 0.6, 0.2, 0.8, 0.1, 0.9], 0.0, 1.0, k)]


SLERP = register(
    Method(
        name="slerp",
        paper="10.1145/325334.325242",
        summary="spherical interpolation between two models",
        parameters=(
            Parameter("t", "number", 0.5, "0 is the first model, 1 the second", low=0.0, high=1.0, required=True),
        ),
        base="first",
        reference=reference,
        stream=SlerpStream,
        candidates=candidates,
        min_models=2,
        max_models=2,
    )
)
