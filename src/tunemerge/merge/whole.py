"""The streaming form of a method that has only its reference: whole tensors, through torch, in float64."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunemerge.errors import TunemergeError
from tunemerge.merge.method import Block, Reference, Single, Tensor, Unit
from tunemerge.merge.spectral import find_device, one_thread

if TYPE_CHECKING:
    import torch


class WholeTensor(Single):
    """Hands a tensor of every model, and the base's, to the reference.

    Memory: what the reference takes, beside 8 bytes an element for every model and the base.
    """

    def __init__(self, reference: Reference, tensor: Tensor) -> None:
        self._reference, self._tensor = reference, tensor
        self.unit: Unit = "tensor" if tensor.size else "element"

    def apply(self, block: Block) -> None:
        import torch

        tensor = self._tensor
        device = find_device(tensor.device)

        def placed(flat: NDArray[np.floating]) -> torch.Tensor:
            return torch.from_numpy(flat.astype(np.float64)).reshape(tensor.shape).to(device)

        values = {**tensor.values, "seed": tensor.seed, "name": tensor.name}
        with one_thread() if device == "cpu" else nullcontext(), torch.no_grad():
            base = placed(block.base) if block.base is not None else None
            merged = self._reference([placed(row) for row in block.rows], base, values)
        if tuple(merged.shape) != tuple(tensor.shape):
            text = f"the method's reference gave a tensor of shape {list(merged.shape)}, expected {list(tensor.shape)}"
            raise TunemergeError(f"{tensor.name}: {text}")
        block.out[:] = merged.reshape(-1).cpu().numpy()
