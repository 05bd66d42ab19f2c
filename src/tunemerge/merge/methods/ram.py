"""RAM (reinforced agent merging): full task vectors where one model has moved, their mean where several have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import Parameter, Values

if TYPE_CHECKING:
    import torch

EPSILON = Parameter("epsilon", "number", 1e-5, "an element has moved when |delta| is larger (in float32)", low=0.0)


def moved(
    tensors: Sequence[torch.Tensor], base: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(models, *shape) deltas, whether each is larger than epsilon, and (*shape) how many are."""
    import torch

    deltas = torch.stack([x.double() - base.double() for x in tensors])
    changed = deltas.float().abs() > torch.tensor(epsilon, dtype=torch.float32)
    return deltas, changed, changed.sum(dim=0)


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """base + the sum of what has moved / the number of models that have moved it."""
    assert base is not None
    deltas, changed, movers = moved(tensors, base, values["epsilon"])
    return base.double() + (deltas * changed).sum(dim=0) / movers.clamp(min=1)


class RamStream(Single):
    """One kernel a block."""

    def __init__(self, tensor: Tensor) -> None:
        self._epsilon: float = tensor.values["epsilon"]
        self._factors = np.ones(tensor.n_models)

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.ram import add_changed

        add_changed(block.rows, block.deltas_from, self._epsilon, self._factors, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """What counts as moved."""
    return [{"epsilon": e} for e in spread([1e-5, 0.0, 1e-4, 1e-6, 3e-5, 3e-4, 1e-3, 3e-6], 0.0, 1e-3, k)]


RAM = register(
    Method(
        name="ram",
        paper="2601.13572",
        summary="task vectors in full where one model has moved, their mean where several have",
        parameters=(EPSILON,),
        base="needed",
        reference=reference,
        stream=RamStream,
        candidates=candidates,
    )
)
