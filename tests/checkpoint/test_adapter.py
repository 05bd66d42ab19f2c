from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_files import conv, embedding, linear, random, write_lora
from tunemerge.checkpoint.adapter import is_adapter, open_adapter
from tunemerge.checkpoint.adapter_patterns import keys_of_modules, values_by_module
from tunemerge.checkpoint.adapter_writer import LowRank, NewAdapter, Whole, write_adapter
from tunemerge.checkpoint.source import ArraySource
from tunemerge.errors import CheckpointError


def test_all_kinds_of_factors_are_found(tmp_path: Path) -> None:
    modules = {
        "model.layers.0.q_proj": linear(6, 5, rank=3) | {"lora_B.bias": random((6,), 1)},
        "model.embed": embedding(11, 6, rank=2),
        "model.conv": conv(6, 5, (3, 3), rank=2),
    }
    folder = write_lora(
        tmp_path / "a",
        modules,
        saved={"score.weight": random((2, 6), 3), "model.layers.0.q_proj.base_layer.bias": random((6,), 4)},
        r=2,
        rank_pattern={"q_proj": 3},
        lora_bias=True,
    )
    adapter = open_adapter(folder)
    assert is_adapter(folder) and not is_adapter(tmp_path)
    assert adapter.base == "org/base" and adapter.record == {}
    assert {module: p.shape for module, p in adapter.products.items()} == {
        "model.layers.0.q_proj": (6, 5),
        "model.embed": (6, 11),
        "model.conv": (6, 5, 3, 3),
    }
    assert [p.embedding for _, p in sorted(adapter.products.items())] == [False, True, False]
    assert adapter.products["model.layers.0.q_proj"].scale == pytest.approx(8 / 3)
    assert adapter.products["model.layers.0.q_proj"].bias is not None
    assert adapter.saved.keys() == {"score.weight", "model.layers.0.q_proj.bias"}
    product = adapter.products["model.conv"]
    assert np.array_equal(adapter.read(product.a), modules["model.conv"]["lora_A.weight"])


def test_scales(tmp_path: Path) -> None:
    modules = {"a.q": linear(4, 4, rank=2), "b.q": linear(4, 4, rank=4)}
    more: dict[str, Any] = {"rank_pattern": {r"b\.q": 4}, "alpha_pattern": {"^a.q": 5}, "r": 2, "lora_alpha": 3}
    plain = open_adapter(write_lora(tmp_path / "plain", modules, **more)).products
    root = open_adapter(write_lora(tmp_path / "root", modules, use_rslora=True, **more)).products
    assert (plain["a.q"].scale, plain["b.q"].scale) == (5 / 2, 3 / 4)
    assert (root["a.q"].scale, root["b.q"].scale) == (5 / math.sqrt(2), 3 / 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'.*merge_and_unload"),
        ({"use_dora": True}, "use_dora: this is DoRA.*merge_and_unload"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"target_parameters": ["experts.down_proj"]}, "experts stacked"),
        ({"trainable_token_indices": [1, 2]}, "single rows of embeddings"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "aLoRA.*can't be merged"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base before training.*path_initial_model"),
        ({"init_lora_weights": "corda"}, "changed the base before training"),
        ({"init_lora_weights": "something_new"}, "not known to leave the base as it is"),
        ({"r": 0}, "r must be a positive"),
        ({"r": "4"}, "r must be a positive"),
        ({"lora_alpha": None}, "lora_alpha must be a number"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a number"),
        ({"rank_pattern": ["q"]}, "rank_pattern must map"),
        ({"alpha_pattern": {"q": "high"}}, "alpha_pattern must map"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "too involved"),
        ({"alpha_pattern": {"q|[": 3}}, "no regular expression"),
        ({"modules_to_save": "score"}, "modules_to_save must be a list"),
        ({"rank_pattern": {"q": 7}}, r"q.lora_A.weight' has rank 4, and adapter_config.json says 7"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = write_lora(tmp_path / "a", {"m.q": linear(4, 4)}, **config)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_adapter(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal"])
def test_starts_that_leave_the_base_alone_are_fine(tmp_path: Path, start: Any) -> None:
    assert open_adapter(write_lora(tmp_path / "a", {"q": linear(4, 4)}, init_lora_weights=start)).products


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"lora_A.weight": random((4, 5), 0)}, "'m.q' has only .*lora_A.weight; both factors"),
        ({"lora_A.weight": random((4, 5), 0), "lora_B.weight": random((6, 3), 0)}, "can't be multiplied"),
        ({"lora_A.weight": random((4, 5), 0), "lora_B.weight": random((6, 4, 1, 1), 0)}, "can't be multiplied"),
        (linear(6, 5) | {"lora_B.bias": random((5,), 0)}, r"shape \[5\], expected \[6\]"),
        (linear(6, 5) | {"lora_magnitude_vector": random((6,), 0)}, "something other than plain LoRA"),
        (linear(6, 0), "can't be multiplied"),
        ({"weight": random((6, 5), 0)}, "holds no LoRA factors"),
    ],
)
def test_factors_that_don_t_go_together(tmp_path: Path, factors: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_adapter(write_lora(tmp_path / "a", {"m.q": factors}))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not an adapter: no adapter_config\.json"):
        open_adapter(tmp_path)
    folder = write_lora(tmp_path / "a", {"q": linear(4, 4)})
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="truncated"):
        open_adapter(folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="is a pickle"):
        open_adapter(folder)
    (folder / "adapter_config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        open_adapter(folder)
    other = write_lora(tmp_path / "b", {"q": linear(4, 4)}, dtype="int8")
    with pytest.raises(CheckpointError, match="save the adapter unquantised"):
        open_adapter(other)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "adapter_config.json").symlink_to(other / "adapter_config.json")
    with pytest.raises(CheckpointError, match="leaves the model's folder"):
        open_adapter(tmp_path / "c")


KEYS = ["peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "modules_to_save", "init_lora_weights"]
KEYS += ["use_rslora", "use_dora", "base_model_name_or_path", "bias"]
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text("q(.*)+[]{1,9}\\\\^$|?", max_size=8)
)
ANYTHING = st.recursive(
    PLAIN, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text("mq.*+(", max_size=6), x, max_size=3)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=3))
def test_no_configuration_does_worse_than_a_clear_error(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = tmp_path / "a"
    if not folder.exists():
        write_lora(folder, {"m.q": linear(4, 4)})
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, **config}))
    try:
        assert math.isfinite(open_adapter(folder).products["m.q"].scale)
    except CheckpointError as problem:
        assert str(folder) in str(problem)


def test_patterns_match_as_peft_does(tmp_path: Path) -> None:
    import re

    patterns = {
        "q_proj": 1,
        "layers.1.k_proj": 2,
        r"layers\.[2-3]\..*": 3,
        "^top": 4,
        "k_proj$": 5,
        "(a|b).v": 6,
    }
    modules = ["model.layers.0.q_proj", "q_proj", "xq_proj", "layers.1.k_proj", "layers.11.k_proj", "layers.0.k_proj"]
    modules += ["layers.2.v", "m.layers.3.q_proj", "top", "a.top", "m.a.v", "b.v", "c.v", ""]
    value = values_by_module(tmp_path, patterns, 0)
    for module in modules:
        matching = (v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
        assert value(module) == next(matching, 0), module


def test_a_key_matches_its_module_alone(tmp_path: Path) -> None:
    modules = ["layers.0.q", "encoder.layers.0.q", "layers.0.k", "q"]
    keys = keys_of_modules(modules)
    for i, module in enumerate(modules):
        value = values_by_module(tmp_path, {keys[module]: i + 1}, 0)
        assert [value(m) for m in modules] == [i + 1 if m == module else 0 for m in modules]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = [
        LowRank("x.q", random((6, 3), 1), random((3, 5), 2), bias=random((6,), 9)),
        LowRank("q", random((6, 2), 3), random((2, 5), 4)),
        LowRank("x.conv", random((6, 2, 1, 1), 3), random((2, 5, 3, 3), 4)),
        LowRank("embed", random((4, 2), 5), random((2, 20), 6), embedding=True),
    ]
    head, bias = random((3, 4), 7), np.arange(6, dtype=np.uint16)
    whole = {
        "score.weight": Whole(ArraySource(head.reshape(-1), "F32", "head"), head.shape),
        "q.bias": Whole(ArraySource(bias, "BF16", "bias"), (6,)),
    }
    settings = {"base_model_name_or_path": "org/base"}
    (tmp_path / "a").mkdir()
    write_adapter(
        NewAdapter(weights, whole, ["score"], biases=True, settings=settings, record={"base": {}}), tmp_path / "a"
    )
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"], config["lora_bias"]) == (3, 3, "all", True)
    assert config["rank_pattern"] == config["alpha_pattern"] == {"embed": 2, "^q": 2, "x.conv": 2}
    assert config["target_modules"] == ["embed", "q", "x.conv", "x.q"] and config["modules_to_save"] == ["score"]
    adapter = open_adapter(tmp_path / "a")
    assert adapter.record == {"base": {}}
    assert "base_model.model.q.base_layer.bias" in adapter.tensors
    for weight in weights:
        product = adapter.products[weight.module]
        assert (product.scale, product.rank, product.embedding) == (1, weight.rank, weight.embedding)
        assert np.array_equal(adapter.read(product.a), weight.a) and np.array_equal(adapter.read(product.b), weight.b)
    assert np.array_equal(adapter.raw(adapter.saved["score.weight"]), head)
    assert np.array_equal(adapter.raw(adapter.saved["q.bias"]), bias)
