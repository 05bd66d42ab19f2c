"""Writes a LoRA adapter that PEFT loads: factors, whole tensors, configuration, and a record of where it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.checkpoint.adapter import CONFIG, PREFIX, RECORD, WEIGHTS
from tunemerge.checkpoint.adapter_patterns import keys_of_modules
from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.model import write_json
from tunemerge.checkpoint.source import Source
from tunemerge.checkpoint.writer import ShardWriter, TensorSpec

_BLOCK = 1 << 20


@dataclass(frozen=True)
class LowRank:
    """The change of one module's weight: b (out, rank, ...) @ a (rank, in, ...), not scaled further.

    For an embedding `in` counts tokens and `out` is the width. `bias` (out,) is added to the module's bias.
    """

    module: str
    b: Array
    a: Array
    embedding: bool = False
    bias: Array | None = None

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])


@dataclass(frozen=True)
class Whole:
    """A tensor of the base that the adapter replaces, or adds."""

    source: Source
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NewAdapter:
    """What is to be written. `whole` by name of the base's tensor; `record` says how the adapter came about.

    `modules_to_save` are the modules whose tensors are all in `whole`; other whole tensors are biases, which need
    `biases`. `settings` are further keys of adapter_config.json.
    """

    weights: Sequence[LowRank]
    whole: Mapping[str, Whole] = field(default_factory=dict)
    modules_to_save: Sequence[str] = ()
    biases: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def write_adapter(adapter: NewAdapter, folder: Path) -> None:
    """Fill an empty folder. Factors are float32, whole tensors keep their dtype."""
    arrays = dict(_factors(adapter.weights))
    targets = {weight.module for weight in adapter.weights}
    names = {name: PREFIX + _wrapped(name, targets) for name in adapter.whole}
    specs = {name: TensorSpec("F32", array.shape) for name, array in arrays.items()}
    specs |= {names[name]: TensorSpec(w.source.dtype, w.shape) for name, w in adapter.whole.items()}
    writer = ShardWriter(folder / WEIGHTS, specs, {"tunemerge": json.dumps(dict(adapter.record), sort_keys=True)})
    try:
        for name, array in arrays.items():
            writer.write(name, 0, np.ascontiguousarray(array, np.float32))
        for name, whole in adapter.whole.items():
            size = specs[names[name]].nbytes // NUMPY[whole.source.dtype].itemsize
            for start in range(0, size, _BLOCK):
                values = np.empty(min(_BLOCK, size - start), NUMPY[whole.source.dtype])
                whole.source.read_into(values, start)
                writer.write(names[name], start, values)
        writer.close()
    finally:
        writer.abandon()
    write_json(folder / CONFIG, adapter_config(adapter))
    write_json(folder / RECORD, adapter.record)


def adapter_config(adapter: NewAdapter) -> dict[str, Any]:
    """adapter_config.json. alpha equals the rank everywhere, so that the factors are taken as they are.

    The largest rank is `r`, which is what servers reserve; smaller ones have entries of their own. Modules are named in
    full: a suffix could match a module that is not adapted.
    """
    r = max(weight.rank for weight in adapter.weights)
    keys = keys_of_modules(weight.module for weight in adapter.weights)
    other = {keys[w.module]: w.rank for w in sorted(adapter.weights, key=lambda w: w.module) if w.rank != r}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": "",
        "r": r,
        "lora_alpha": r,
        "rank_pattern": other,
        "alpha_pattern": other,
        "target_modules": sorted(weight.module for weight in adapter.weights),
        "modules_to_save": sorted(adapter.modules_to_save) or None,
        "bias": "all" if adapter.biases else "none",
        "lora_bias": any(weight.bias is not None for weight in adapter.weights),
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
        **adapter.settings,
    }


def _factors(weights: Sequence[LowRank]) -> list[tuple[str, Array]]:
    named = []
    for weight in weights:
        kind, end = ("lora_embedding", "") if weight.embedding else ("lora", ".weight")
        for letter, array in (("A", weight.a), ("B", weight.b)):
            named.append((f"{PREFIX}{weight.module}.{kind}_{letter}{end}", array))
        if weight.bias is not None:
            named.append((f"{PREFIX}{weight.module}.lora_B.bias", weight.bias))
    return named


def _wrapped(name: str, targets: set[str]) -> str:
    """PEFT moves what an adapted module holds one level down."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.base_layer.{leaf}" if module in targets else name
