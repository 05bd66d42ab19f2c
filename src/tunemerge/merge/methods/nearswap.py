"""NearSwap: every weight of the base moves to the model's where that is near, else towards it by `t`.

As published, the interpolation weight is t / |model - base|, at most 1, so that every weight moves by
min(t, |model - base|).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import Parameter, Values

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Interpolate with weight t / distance, at most 1; where the distance is zero there is nothing to do."""
    import torch

    assert base is not None
    start, model = base.double(), tensors[0].double()
    distance = (model - start).abs()
    share = torch.where(distance > 0, values["t"] / distance, 1.0).clamp(0, 1)
    return share * model + (1 - share) * start


class NearswapStream(Single):
    """One step a block."""

    takes_bf16 = True

    def __init__(self, tensor: Tensor) -> None:
        self._t: float = tensor.values["t"]

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.near import step_towards

        step_towards(block.rows, block.deltas_from, self._t, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """From the usual distance between fine-tuned models down to that of the original, and up."""
    return [{"t": t} for t in spread([1e-3, 3e-4, 3e-3, 1e-4, 1e-2, 3e-5, 3e-2], 0.0, 1e-2, k)]


NEARSWAP = register(
    Method(
        name="nearswap",
        paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        summary="moves every weight of the base towards one model by at most t",
        parameters=(Parameter("t", "number", 1e-3, "longest distance that a weight moves", low=0.0, required=True),),
        base="needed",
        reference=reference,
        stream=NearswapStream,
        candidates=candidates,
        max_models=1,
    )
)
