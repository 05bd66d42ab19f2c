"""torch tensors to NumPy and back, without loss: bfloat16 travels as bit patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.checkpoint.dtypes import Array
from tunemerge.errors import UsageError

if TYPE_CHECKING:
    import torch


def to_numpy(state: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of a state dict's tensors, without a copy where they are on the CPU."""
    import torch

    out = {}
    for name, tensor in state.items():
        if isinstance(tensor, np.ndarray):
            out[name] = tensor
            continue
        if not isinstance(tensor, torch.Tensor) or tensor.dtype == torch.uint16:
            kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise UsageError(f"{name}: a {kind} can't be merged")
        plain = tensor.detach().cpu().contiguous()
        if plain.dtype == torch.bfloat16:
            out[name] = plain.view(torch.int16).numpy().view(np.uint16)
        else:
            out[name] = plain.numpy()
    return out


def from_numpy(state: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Tensors on the arrays' memory; uint16 becomes bfloat16."""
    import torch

    return {
        name: torch.from_numpy(a.view(np.int16)).view(torch.bfloat16) if a.dtype == np.uint16 else torch.from_numpy(a)
        for name, a in state.items()
    }


def twins(state: Mapping[str, Any]) -> dict[str, str]:
    """Names of tensors that are the same memory as an earlier one (tied weights), and that one's name."""
    first: dict[tuple[Any, ...], str] = {}
    out = {}
    for name, tensor in state.items():
        if isinstance(tensor, np.ndarray) or not hasattr(tensor, "data_ptr") or not tensor.numel():
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if place in first:
            out[name] = first[place]
        else:
            first[place] = name
    return out
