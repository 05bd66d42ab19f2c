"""Adapters as PEFT saves them, written with the safetensors library, and what they change, dense and in float64."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.checkpoint.adapter import PREFIX
from tunemerge.checkpoint.source import Model

Shape = tuple[int, ...]


def random(shape: Shape, seed: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def linear(out: int, into: int, rank: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Factors of a linear layer, by the end of their names."""
    return {"lora_A.weight": random((rank, into), seed), "lora_B.weight": random((out, rank), seed + 1000)}


def embedding(tokens: int, width: int, rank: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    return {"lora_embedding_A": random((rank, tokens), seed), "lora_embedding_B": random((width, rank), seed + 1000)}


def conv(out: int, into: int, kernel: Shape, rank: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    ones = tuple(1 for _ in kernel)
    return {
        "lora_A.weight": random((rank, into, *kernel), seed),
        "lora_B.weight": random((out, rank, *ones), seed + 1000),
    }


def write_lora(
    folder: Path,
    modules: Mapping[str, Mapping[str, np.ndarray]],
    *,
    saved: Mapping[str, np.ndarray] | None = None,
    dtype: str = "float32",
    **config: Any,
) -> Path:
    """A folder with the factors of `modules` and the whole tensors `saved`; `config` adds to adapter_config.json."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    arrays = {f"{PREFIX}{module}.{end}": a for module, ends in modules.items() for end, a in ends.items()}
    arrays |= {f"{PREFIX}{name}": a for name, a in (saved or {}).items()}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)).to(getattr(torch, dtype)) for name, a in arrays.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    ranks = [array.shape[0] for name, array in arrays.items() if name.endswith(("lora_A.weight", "embedding_A"))]
    default = {"peft_type": "LORA", "r": max(ranks, default=4), "lora_alpha": 8, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps({**default, **config}))
    return folder


def dense(factors: Mapping[str, np.ndarray], scale: float) -> np.ndarray:
    """scale * B @ A as the layer's weight has it in torch: (out, in, ...), for an embedding (tokens, width)."""
    import torch

    if "lora_embedding_A" in factors:
        a, b = (torch.from_numpy(factors[f"lora_embedding_{x}"]).double() for x in "AB")
        return (scale * (b @ a).T).numpy()
    a, b = (torch.from_numpy(factors[f"lora_{x}.weight"]).double() for x in "AB")
    return (scale * torch.einsum("or,ri...->oi...", b.flatten(1), a)).numpy()


def values(model: Model, name: str, block: int = 10**9) -> np.ndarray:
    """One tensor of a model, read in blocks, in its shape."""
    from tunemerge.checkpoint.dtypes import NUMPY

    source, info = model.source(name), model.tensors[name]
    out = np.empty(info.size, NUMPY[info.dtype])
    for start in range(0, info.size, block):
        source.read_into(out[start : start + block], start)
    return out.reshape(info.shape)
