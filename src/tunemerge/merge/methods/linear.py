"""Weighted average of the weights: model soups (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import tilted
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import Values, flag, weight

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """sum of w_i x_i, divided by sum of w_i."""
    total = sum(w * x.double() for w, x in zip(values["weight"], tensors, strict=True))
    scale = sum(values["weight"]) if values["normalize"] else 1.0
    return total / scale


class LinearStream(Single):
    """One weighted sum a block."""

    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        weights = np.array(tensor.values["weight"], np.float64)
        self._weights = weights / weights.sum() if tensor.values["normalize"] else weights

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.signatures import CHUNK
        from tunemerge.merge.kernels.sums import weighted_sum

        weighted_sum(block.rows, self._weights, np.empty(CHUNK), block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """The plain average, then each model in turn with more."""
    return [{"weight": weights} for weights in tilted(n_models, k)]


def refuses_values(values: Values) -> str | None:
    if values["normalize"] and abs(sum(values["weight"])) < 1e-8:
        return "the weights add up to zero and can't be normalised; change one, or set normalize: false"
    return None


LINEAR = register(
    Method(
        name="linear",
        paper="2203.05482",
        summary="weighted average of the weights",
        parameters=(
            weight(1.0, "share of each model"),
            flag("normalize", True, "divide by the sum of the weights"),
        ),
        base="no",
        reference=reference,
        stream=LinearStream,
        candidates=candidates,
        refuses_values=refuses_values,
    )
)
