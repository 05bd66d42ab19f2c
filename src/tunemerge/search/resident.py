"""Merges of adapters tried on one model in memory: its tensors are changed in place and put back bit for bit.

In memory are one model, the adapters' factors of one matrix and a stretch of its rows; no merge is written. What is put
back is read again from the model's file, so that nothing is kept beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.checkpoint.adapter import Adapter, open_adapter
from tunemerge.checkpoint.dtypes import to_float32
from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.errors import UsageError
from tunemerge.registry import listed

_STRETCH = 1 << 23  # numbers of a matrix that are changed at a time: 64 MB in float64


@contextmanager
def summed(net: Any, file: Checkpoint, adapters: Sequence[Adapter], weights: Sequence[float]) -> Iterator[None]:
    """Inside the block `net` is the model of `file` with the adapters' changes, each times its weight, added.

    Sums are made in float64 and rounded once, as in a merge of files. UsageError for adapters that do more than change
    matrices, or matrices that `net` lacks; `net` is then as it was.
    """
    from tunemerge.merge.lora.mix import Mix
    from tunemerge.merge.lora.together import combine_module

    modules = sorted({module for adapter in adapters for module in adapter.products})
    _refuse_others(net, file, adapters, modules)
    touched: list[str] = []
    try:
        for module in modules:
            found = combine_module(adapters, module, Mix("cat", tuple(weights)), weights)
            if found is not None:
                touched.append(f"{module}.weight")
                _add(net.get_parameter(touched[-1]), found.b, found.a, _transposed(net, module))
        yield
    finally:
        for name in touched:
            _put_back(net.get_parameter(name), file, name)


def try_weights(
    net: Any,
    base: Path,
    adapters: Sequence[Path],
    candidates: Sequence[Sequence[float]],
    score: Callable[[], float],
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> list[float]:
    """`score()` for every candidate, the weights of the adapters (PEFT folders) on the model of the folder `base`,
    which `net` is. `net` holds the bits that it had, whatever happens."""
    file, opened = open_checkpoint(base), [open_adapter(path) for path in adapters]
    out = []
    for number, weights in enumerate(candidates):
        with summed(net, file, opened, weights):
            out.append(score())
        progress((number + 1) / len(candidates), f"candidate {number + 1}/{len(candidates)}, best {max(out):.3f}")
    return out


def _add(parameter: Any, b: np.ndarray, a: np.ndarray, transposed: bool) -> None:
    """parameter += b @ a, a stretch of rows at a time."""
    import torch

    left = torch.from_numpy(b.reshape(b.shape[0], -1)).to(parameter.device, torch.float64)
    right = torch.from_numpy(a.reshape(a.shape[0], -1)).to(parameter.device, torch.float64)
    rows = max(1, _STRETCH // right.shape[1])
    with torch.no_grad():
        target = parameter.T if transposed else parameter
        for start in range(0, len(left), rows):
            part = target[start : start + rows]
            part.copy_((part.double() + left[start : start + rows] @ right).to(part.dtype))


def _put_back(parameter: Any, file: Checkpoint, name: str) -> None:
    import torch

    with torch.no_grad():
        parameter.copy_(torch.from_numpy(to_float32(read_tensor(file, name), file.tensors[name].dtype)))


def _transposed(net: Any, module: str) -> bool:
    """Whether a module stores its weight (in, out), as GPT-2's layers and embeddings do."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(net.get_submodule(module), Conv1D | torch.nn.Embedding)


def _refuse_others(net: Any, file: Checkpoint, adapters: Sequence[Adapter], modules: Sequence[str]) -> None:
    names = {name for name, _ in net.named_parameters()}
    for adapter in adapters:
        biased = [p.module for p in adapter.products.values() if p.bias]
        kept = [*adapter.saved, *biased]
        if kept:
            raise UsageError(
                f"{adapter.folder}: it keeps {listed(kept, 3)} whole or biased, which is no change of a matrix; "
                "merge the models that it makes instead"
            )
    missing = [m for m in modules if f"{m}.weight" not in names or f"{m}.weight" not in file.tensors]
    if missing:
        raise UsageError(
            f"the model has no matrix {listed(missing, 3)} that an adapter changes: it is of another model"
        )
