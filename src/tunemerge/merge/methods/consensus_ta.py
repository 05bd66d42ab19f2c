"""Consensus task arithmetic (Wang et al. 2024): keep of the summed task vectors what is useful to enough tasks.

A weight is useful to a task (its TALL mask) where the task's own delta is at least `tall` times as large as what all
others add to it: |delta_t| >= tall * |sum of deltas - delta_t|. Weights that are useful to fewer than `k` tasks stay
at the base: with k = 2 those that serve nobody and those that serve one task only. The masks are of the plain sum,
as in the authors' code, whatever the weights of the sum that is added. The paper chooses `tall` for every task on
validation, among 0.2 to 0.6; here it is one number. A weight that no task has moved counts as useful: it is the
base's anyway. Masks are decided in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import LAMBDA, Parameter, Values

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Masks from float32 deltas, then base + lambda * mask * weighted sum of deltas."""
    import torch

    assert base is not None
    start = base.double()
    deltas = [x.double() - start for x in tensors]
    decisive = [d.float() for d in deltas]
    together = torch.zeros_like(decisive[0])
    for d in decisive:
        together = together + d
    tall = torch.tensor(values["tall"], dtype=torch.float32)
    useful = torch.stack([d.abs() >= tall * (together - d).abs() for d in decisive])
    consensus = useful.sum(dim=0) >= values["k"]
    mixed = sum(w * d for w, d in zip(values["weight"], deltas, strict=True))
    return start + values["lambda"] * torch.where(consensus, mixed, 0.0)


class ConsensusStream(Single):
    """One kernel a block."""

    def __init__(self, tensor: Tensor) -> None:
        self._tall: float = tensor.values["tall"]
        self._least: int = tensor.values["k"]
        self._weights = np.array(tensor.values["weight"], np.float64)
        self._scale: float = tensor.values["lambda"]

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.tall import add_useful

        base = block.deltas_from
        add_useful(block.rows, base, self._tall, self._least, self._weights, self._scale, block.out)


def refuses_values(values: Values) -> str | None:
    n = len(values["weight"])
    if values["k"] > n:
        return f"k is {values['k']} and there are {n} models: nothing would be kept; choose k from 1 to {n}"
    return None


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale and consensus; first task arithmetic's scale and what is useful to two tasks."""
    scales, least = [0.4, 0.6, 0.3, 0.8, 0.2, 1.0], [2, 1, *range(3, n_models + 1)]
    return [{"weight": scale, "k": count} for scale, count in pairs(scales, least, k)]


CONSENSUS_TA = register(
    Method(
        name="consensus_ta",
        paper="2405.07813",
        summary="sum of task vectors where it is useful to several tasks (TALL masks)",
        parameters=(
            Parameter("weight", "number", 0.4, "scale of each task vector", per_model=True),
            Parameter("k", "integer", 2, "tasks that a weight must be useful to; at most the number of models", low=1),
            Parameter("tall", "number", 0.4, "a weight is useful where |delta| is this much of the others' sum", low=0),
            LAMBDA,
        ),
        base="needed",
        reference=reference,
        stream=ConsensusStream,
        candidates=candidates,
        min_models=2,
        refuses_values=refuses_values,
    )
)
