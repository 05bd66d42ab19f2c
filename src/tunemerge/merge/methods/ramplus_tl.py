"""RAM+ (reinforced agent merging, tensor by tensor): as RAM, and what a model moved alone is made larger.

The more of its movement a model shares with others, the more is lost in means. The factor on what it moved alone is
1 + r * min(alpha, shared elements / unique elements).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Block, Method, Tensor, Unit, register
from tunemerge.merge.methods.ram import EPSILON, moved
from tunemerge.merge.parameters import Parameter, Values

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """base + the mean of what several have moved + the factor * what one has."""
    assert base is not None
    deltas, changed, movers = moved(tensors, base, values["epsilon"])
    shared, unique = changed & (movers > 1), changed & (movers == 1)
    ratio = _count(shared) / _count(unique).clamp(min=1)
    factor = 1 + values["r"] * ratio.double().clamp(max=values["alpha"])
    alone = (factor.reshape(-1, *[1] * base.ndim) * deltas * unique).sum(dim=0)
    return base.double() + alone + (deltas * shared).sum(dim=0) / movers.clamp(min=1)


def _count(masks: torch.Tensor) -> torch.Tensor:
    return masks.reshape(masks.shape[0], masks[0].numel()).sum(dim=1)


class RamPlusStream:
    """One pass counts what is shared."""

    passes = 1
    unit: Unit = "element"

    def __init__(self, tensor: Tensor) -> None:
        self._epsilon: float = tensor.values["epsilon"]
        self._r: float = tensor.values["r"]
        self._alpha: float = tensor.values["alpha"]
        self._shared, self._unique = np.zeros(tensor.n_models, np.int64), np.zeros(tensor.n_models, np.int64)
        self._factors = np.ones(tensor.n_models)

    def scan(self, index: int, block: Block) -> None:
        from tunemerge.merge.kernels.ram import count_shared

        count_shared(block.rows, block.deltas_from, self._epsilon, self._shared, self._unique)

    def finish(self, index: int) -> None:
        self._factors[:] = 1 + self._r * np.minimum(self._shared / np.maximum(self._unique, 1), self._alpha)

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.ram import add_changed

        add_changed(block.rows, block.deltas_from, self._epsilon, self._factors, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """r and alpha; first the paper's."""
    settings = pairs([0.1, 0.5, 1.0, 0.2, 2.0], [0.2, 0.5, 1.0, 0.1], k)
    return [{"r": r, "alpha": alpha} for r, alpha in settings]


RAMPLUS_TL = register(
    Method(
        name="ramplus_tl",
        paper="2601.13572",
        summary="as ram, with what one model moved alone made larger by how much it shares",
        parameters=(
            Parameter("r", "number", 0.1, "how much the ratio of shared to unique elements adds", low=0.0),
            Parameter("alpha", "number", 0.2, "the ratio counts up to here", low=0.0),
            EPSILON,
        ),
        base="needed",
        reference=reference,
        stream=RamPlusStream,
        candidates=candidates,
    )
)
