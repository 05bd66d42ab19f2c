"""Adapters on one resident model: the sum of their changes inside, the very bits of the model outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.adapter_writer import LowRank, NewAdapter, write_adapter
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import UsageError
from tunemerge.search.resident import summed, try_weights
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS

LAYERS = {"tiny_gpt": "transformer.h.1.attn.c_attn", "tiny_llama": "model.layers.1.mlp.down_proj"}
SHAPES = {"tiny_gpt": (96, 32), "tiny_llama": (32, 64)}  # (out, in)


def adapters(folder: Path, base: str, count: int = 3) -> list[Path]:
    rng = np.random.default_rng(0)
    out, inner = SHAPES[base]
    paths = []
    for number in range(count):
        path = folder / f"adapter{number}"
        path.mkdir()
        b, a = rng.normal(size=(out, 2)).astype(np.float32), rng.normal(size=(2, inner)).astype(np.float32)
        write_adapter(NewAdapter([LowRank(LAYERS[base], b, a)]), path)
        paths.append(path)
    return paths


@pytest.mark.parametrize("base", ["tiny_gpt", "tiny_llama"])
def test_changed_inside_and_the_same_bits_outside(base: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(base)
    paths = adapters(tmp_path, base)
    net = TASKS["language-modelling"].load(folder, Spec("language-modelling")).net
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights = (0.5, -0.25, 2.0)
    name = f"{LAYERS[base]}.weight"
    with summed(net, open_checkpoint(folder), [open_adapter(p) for p in paths], weights):
        change = sum(
            w * np.float64(o.read(p.b)) @ np.float64(o.read(p.a))
            for w, o in zip(weights, map(open_adapter, paths), strict=True)
            for p in o.products.values()
        )
        expected = before[name].double().numpy() + (change.T if base == "tiny_gpt" else change)
        assert np.allclose(net.get_parameter(name).detach().numpy(), expected, rtol=1e-6, atol=1e-6)
        others = (bool((t == before[n]).all()) for n, t in net.state_dict().items() if n != name)
        assert all(others)
    assert all(bool((tensor == before[n]).all()) for n, tensor in net.state_dict().items())


def test_a_score_that_fails_leaves_the_model_as_it_was(tiny_llama: Path, tmp_path: Path) -> None:
    net = TASKS["language-modelling"].load(tiny_llama, Spec("language-modelling")).net
    weight = net.get_parameter(f"{LAYERS['tiny_llama']}.weight")
    before = weight.clone()
    seen: list[Any] = []

    def score() -> float:
        seen.append(bool((weight == before).all()))
        if len(seen) == 2:
            raise RuntimeError("no score")
        return float(len(seen))

    with pytest.raises(RuntimeError):
        try_weights(net, tiny_llama, adapters(tmp_path, "tiny_llama"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)], score)
    assert seen == [False, False] and bool((weight == before).all())


def test_adapters_of_another_model_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    net = TASKS["language-modelling"].load(tiny_llama, Spec("language-modelling")).net
    with pytest.raises(UsageError, match="no matrix transformer"):
        try_weights(net, tiny_llama, adapters(tmp_path, "tiny_gpt"), [(1, 0, 0)], lambda: 0.0)
