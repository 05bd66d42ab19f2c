"""One model's tensors as they are, or times a factor: for stacking slices of models (Kim et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.method import Block, Method, Single, Tensor, register
from tunemerge.merge.parameters import Parameter, Values

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """scale x."""
    return values["scale"][0] * tensors[0].double()


class PassthroughStream(Single):
    """One multiplication an element."""

    def __init__(self, tensor: Tensor) -> None:
        self._scale: float = tensor.values["scale"][0]

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.near import scaled

        scaled(block.rows, self._scale, block.out)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """The model itself: other factors are for single layers, and a search knows none."""
    return [{}]


PASSTHROUGH = register(
    Method(
        name="passthrough",
        paper="2312.15166",
        summary="one model's tensors as they are, or times a factor",
        parameters=(Parameter("scale", "number", 1.0, "factor on the tensor", per_model=True),),
        base="no",
        reference=reference,
        stream=PassthroughStream,
        candidates=candidates,
        max_models=1,
    )
)
