"""A LoRA adapter as PEFT saves it, opened as data: its configuration and the header of its weights. No PEFT, no torch.

What the adapter does to a weight W is W + scale * B @ A (Hu et al. 2021, 2106.09685), with scale = alpha / rank, or
alpha / sqrt(rank) where rsLoRA (2312.03732) is on. Every kind of adapter that does anything else is refused by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tunemerge.checkpoint.adapter_config import REMEDY, check_config
from tunemerge.checkpoint.adapter_patterns import values_by_module
from tunemerge.checkpoint.dtypes import FLOATS, NUMPY, Array, to_float32
from tunemerge.checkpoint.header import TensorInfo, read_header
from tunemerge.checkpoint.model import inside, read_json
from tunemerge.checkpoint.reader import FileReader
from tunemerge.errors import CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RECORD = "tunemerge_adapter.json"
"""Says how an adapter came about; a folder without it is never replaced."""

FOLDER = "adapter"
"""Where a tuned model's folder keeps the adapter that was folded into its weights, as PEFT saves it."""

PREFIX = "base_model.model."


@dataclass(frozen=True)
class Product:
    """What is added to the weight of `module`: scale * B @ A, reshaped to (out, in, ...).

    `a` (rank, in, ...) and `b` (out, rank, ...) are names of tensors in the file; `bias` (out,) too, and scale * bias
    is added to the module's bias. For an embedding `in` counts tokens and `out` is the width: the stored weight is the
    transpose, and for a Conv1D of transformers (GPT-2) as well.
    """

    module: str
    embedding: bool
    a: str
    b: str
    bias: str | None
    rank: int
    scale: float
    shape: tuple[int, ...]

    @property
    def weight(self) -> str:
        """The tensor of the base that changes."""
        return f"{self.module}.weight"


@dataclass(frozen=True)
class Adapter:
    """`products` by module; `saved` maps a tensor of the base that is replaced, or added, to its name in the file.

    `record` is what tunemerge left about the adapter's origin, or empty.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    products: dict[str, Product]
    saved: dict[str, str]
    record: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def base(self) -> str:
        """What the adapter says it was trained on: a folder or Hub id; empty where it says nothing."""
        return str(self.config.get("base_model_name_or_path") or "")

    def raw(self, name: str) -> Array:
        """A tensor as it is stored, in its shape. Safe from any thread."""
        info = self.tensors[name]
        out = np.empty(info.shape, NUMPY[info.dtype])
        with FileReader(self.file) as file:
            file.read_into(out, info.start)
        return out

    def read(self, name: str) -> Array:
        """A tensor as float32, or as float64 where it is stored so."""
        raw, dtype = self.raw(name), self.tensors[name].dtype
        return raw if dtype == "F64" else to_float32(raw, dtype)


def open_adapter(path: Path) -> Adapter:
    """Open a PEFT LoRA folder. Raises CheckpointError, naming the file, the key or tensor, and what to do."""
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        _refuse(folder, f"not an adapter: no {CONFIG} in it")
    config = read_json(inside(folder, CONFIG))
    check_config(folder / CONFIG, config)
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").exists()
        fix = "; adapter_model.bin is a pickle, which is not read: save it again with PEFT" if pickled else ""
        _refuse(folder, f"no {WEIGHTS} in it{fix}")
    tensors = read_header(inside(folder, WEIGHTS)).tensors
    record = read_json(inside(folder, RECORD)) if (folder / RECORD).is_file() else {}
    if not all(isinstance(record.get(key, {}), dict) for key in ("base", "tied")):
        _refuse(folder / RECORD, "base and tied must be JSON objects; remove the file or make the adapter again")
    products, saved = _sort(folder / WEIGHTS, config, tensors)
    return Adapter(folder, config, tensors, products, saved, record)


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (Path(path) / CONFIG).is_file()


def _sort(
    path: Path, config: dict[str, Any], tensors: dict[str, TensorInfo]
) -> tuple[dict[str, Product], dict[str, str]]:
    """Which tensors are factors of which module, and which replace a tensor of the base."""
    parts: dict[str, dict[str, str]] = {}
    saved = {}
    for name in sorted(tensors):
        plain = name.removeprefix(PREFIX)
        module, dot, rest = plain.partition(".lora_")
        if dot and rest in ("A.weight", "B.weight", "B.bias", "embedding_A", "embedding_B"):
            if tensors[name].dtype not in FLOATS:
                _refuse(path, f"tensor {name!r} is stored as {tensors[name].dtype}; save the adapter unquantised")
            parts.setdefault(module, {})[rest] = name
        elif "lora_" in plain or "token_adapter" in plain:
            _refuse(path, f"tensor {name!r} belongs to something other than plain LoRA; {REMEDY}")
        else:
            saved[plain.replace(".base_layer.", ".")] = name
    if not parts:
        _refuse(path, "holds no LoRA factors (tensors named ...lora_A.weight and ...lora_B.weight)")
    rank_of = values_by_module(path.with_name(CONFIG), config.get("rank_pattern") or {}, config.get("r", 8))
    alpha_of = values_by_module(path.with_name(CONFIG), config.get("alpha_pattern") or {}, config.get("lora_alpha", 8))
    root = bool(config.get("use_rslora"))
    products = {
        module: _product(path, tensors, module, found, rank_of(module), alpha_of(module), root)
        for module, found in parts.items()
    }
    return products, saved


def _product(
    path: Path,
    tensors: dict[str, TensorInfo],
    module: str,
    found: dict[str, str],
    expected: float,
    alpha: float,
    root: bool,
) -> Product:
    embedding = "embedding_A" in found or "embedding_B" in found
    a, b = (found.get(f"embedding_{x}" if embedding else f"{x}.weight") for x in "AB")
    if a is None or b is None or (embedding and len(found) > 2):
        _refuse(path, f"module {module!r} has only {', '.join(found.values())}; both factors are needed")
    left, right = tensors[b].shape, tensors[a].shape
    flat = len(left) == 2 or all(size == 1 for size in left[2:])
    if len(left) < 2 or len(right) != len(left) or left[1] != right[0] or not flat or 0 in left + right:
        _refuse(path, f"tensors {a!r} {list(right)} and {b!r} {list(left)} can't be multiplied as B @ A")
    rank = right[0]
    if rank != expected:
        _refuse(path, f"tensor {a!r} has rank {rank}, and {CONFIG} says {expected}; take the file that belongs to it")
    bias = found.get("B.bias")
    if bias and tensors[bias].shape != left[:1]:
        _refuse(path, f"tensor {bias!r} has the shape {list(tensors[bias].shape)}, expected {list(left[:1])}")
    scale = alpha / math.sqrt(rank) if root else alpha / rank
    return Product(module, embedding, a, b, bias, rank, scale, (left[0], *right[1:]))


def _refuse(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}")
