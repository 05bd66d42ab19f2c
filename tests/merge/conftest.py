"""Small checkpoints to merge."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.writer import CheckpointWriter, TensorSpec
from tunemerge.testing.methods import sample

MakeModel = Callable[..., Path]


def write_model(
    folder: Path,
    state: Mapping[str, Array],
    *,
    config: Mapping[str, Any] | None = None,
    shard_bytes: int = 10**9,
) -> Path:
    """A model folder; uint16 arrays are bfloat16."""
    folder.mkdir(parents=True)
    names = {dtype: name for name, dtype in NUMPY.items() if not name.startswith("F8") and name != "U16"}
    specs = {name: TensorSpec(names[a.dtype], a.shape) for name, a in state.items()}
    writer = CheckpointWriter(folder, specs, {}, shard_bytes)
    for name, array in state.items():
        writer.write(name, 0, np.ascontiguousarray(array))
    writer.close()
    default = {"model_type": "bert", "architectures": ["BertModel"], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(default if config is None else config))
    (folder / "tokenizer.json").write_text(json.dumps({"from": folder.name}))
    return folder


def small_state(seed: int, dtype: str = "F32") -> dict[str, Array]:
    """A model of a few tensors; the same position ids whatever the seed."""
    shapes = {
        "embeddings.word_embeddings.weight": (50, 16),
        "encoder.layer.0.attention.weight": (16, 16),
        "encoder.layer.1.attention.weight": (16, 16),
        "encoder.layer.1.norm.bias": (16,),
        "classifier.weight": (2, 16),
    }
    state = {name: sample(shape, dtype, seed * 100 + i) for i, (name, shape) in enumerate(shapes.items())}
    return {**state, "embeddings.position_ids": np.arange(12, dtype=np.int64).reshape(1, 12)}


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """make_model(name, seed=..., dtype=...) or make_model(name, state=...) writes a folder and returns it."""

    def make(name: str, seed: int = 0, dtype: str = "F32", state: Any = None, **more: Any) -> Path:
        return write_model(tmp_path / name, small_state(seed, dtype) if state is None else state, **more)

    return make
