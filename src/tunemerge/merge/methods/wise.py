"""WiSE-FT (Wortsman et al. 2022): the straight line from the base to a fine-tuned model.

(1 - alpha) base + alpha expert; of several experts, their mean. The paper finds that alpha = 0.5 mostly keeps what
tuning has won and wins back much of what it has lost elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import Parameter, Values

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """(1 - alpha) base + alpha mean."""
    import torch

    assert base is not None
    mean = torch.stack([x.double() for x in tensors]).mean(dim=0)
    return (1 - values["alpha"]) * base.double() + values["alpha"] * mean


class WiseStream(Single):
    """Base plus equal shares of all deltas, in any order the same."""

    def __init__(self, tensor: Tensor) -> None:
        self._weights = np.full((1, tensor.n_models), tensor.values["alpha"] / tensor.n_models)

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.span import add_rows

        add_rows(block.rows, block.deltas_from, block.out.size, self._weights, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Half way, then to both sides."""
    return [{"alpha": a} for a in spread([0.5, 0.7, 0.3, 0.9, 0.1, 0.8, 0.6, 0.4, 0.2], 0.0, 1.0, k)]


WISE = register(
    Method(
        name="wise",
        paper="2109.01903",
        summary="interpolation between the base and one expert, or the mean of several",
        parameters=(Parameter("alpha", "number", 0.5, "0 is the base, 1 the experts' mean", low=0.0, high=1.0),),
        base="needed",
        reference=reference,
        stream=WiseStream,
        candidates=candidates,
        symmetric=True,
    )
)
