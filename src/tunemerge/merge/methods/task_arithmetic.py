"""Base plus scaled task vectors (Ilharco et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import INT8_MASK, LAMBDA, Values, flag, weight

if TYPE_CHECKING:
    import torch

_NO_SUM = 1e-8


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """base + lambda * sum of w_i (x_i - base), where normalised divided by sum of w_i."""
    assert base is not None
    start = base.double()
    mixed = sum(w * (x.double() - start) for w, x in zip(values["weight"], tensors, strict=True))
    total = sum(values["weight"])
    if values["normalize"] and abs(total) >= _NO_SUM:
        mixed = mixed / total
    return start + values["lambda"] * mixed


class TaskArithmeticStream(Single):
    """One weighted sum of deltas a block."""

    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        self._weights = np.array(tensor.values["weight"], np.float64)
        self._scale: float = tensor.values["lambda"]
        total = float(self._weights.sum())
        if tensor.values["normalize"] and abs(total) >= _NO_SUM:
            self._weights = self._weights / total

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.signatures import CHUNK
        from tunemerge.merge.kernels.sums import add_deltas

        room = np.empty(CHUNK)
        add_deltas(block.rows, block.deltas_from, self._weights, self._scale, room, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """The same weight on every task vector; 0.4 is the paper's advice where nothing can be validated."""
    return [{"weight": w} for w in spread([0.4, 0.6, 0.3, 0.8, 0.2, 1.0, 0.5, 0.7, 0.1, 0.9], 0.0, 1.5, k)]


TASK_ARITHMETIC = register(
    Method(
        name="task_arithmetic",
        paper="2212.04089",
        summary="base plus scaled sum of task vectors",
        parameters=(
            weight(0.4, "scale of each task vector"),
            flag("normalize", False, "divide by the sum of the weights"),
            LAMBDA,
            INT8_MASK,
        ),
        base="needed",
        reference=reference,
        stream=TaskArithmeticStream,
        candidates=candidates,
    )
)
