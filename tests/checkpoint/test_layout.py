"""Where layers are, read from names alone; and config.json after layers were moved."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tunemerge.checkpoint.layout import find_layout
from tunemerge.checkpoint.naming import before_layers
from tunemerge.merge.recipe.config import follow_layers
from tunemerge.merge.recipe.scope import claim

BLOCK = ("attention.query.weight", "mlp.up.weight", "norm.weight")


def blocks(prefix: str, count: int, rests: Iterable[str] = BLOCK) -> list[str]:
    return [f"{prefix}.{i}.{rest}" for i in range(count) for rest in rests]


@pytest.mark.parametrize(
    ("names", "stacks"),
    [
        (["model.embed_tokens.weight", *blocks("model.layers", 3), "lm_head.weight"], {"model.layers": 3}),
        ([*blocks("h", 2), *blocks("h.0.mlp.experts", 8), *blocks("h.1.mlp.experts", 8)], {"h": 2}),
        ([*blocks("encoder.block", 2), *blocks("decoder.block", 4)], {"encoder.block": 2, "decoder.block": 4}),
        ([*blocks("0.auto_model.encoder.layer", 3), "2.linear.weight"], {"0.auto_model.encoder.layer": 3}),
        ([*blocks("bert.encoder.layer", 1), "classifier.0.weight", "classifier.3.weight"], {"bert.encoder.layer": 1}),
        (["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias", "out.weight"], {"net": 2}),
        (["0.weight", "1.weight"], {"": 2}),
        (["conv1.weight", *blocks("layer1", 2), *blocks("layer2", 3), "fc.weight"], {"layer1": 2, "layer2": 3}),
        (["weight", "bias"], {}),
    ],
)  # fmt: skip
def test_stacks(names: list[str], stacks: dict[str, int]) -> None:
    found = find_layout(names)
    assert {prefix: len(stack.numbers) for prefix, stack in found.stacks.items()} == stacks


def test_depths() -> None:
    layout = find_layout([*blocks("h", 5), "net.0.weight", "wte.weight"])
    stack = layout.stacks["h"]
    assert [stack.depth(i) for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert find_layout(blocks("h", 1)).stacks["h"].depth(0) == 1.0
    gaps = find_layout(["n.0.weight", "n.2.weight", "n.4.weight"]).stacks["n"]
    assert [gaps.depth(i) for i in (0, 2, 4)] == [0, 0.5, 1] and not gaps.whole
    assert layout.outside == ["net.0.weight", "wte.weight"]


def test_what_comes_before_the_layers() -> None:
    before = [
        *("model.embed_tokens.weight", "transformer.wte.weight", "transformer.wpe.weight", "gpt_neox.embed_in.weight"),
        *("bert.embeddings.LayerNorm.weight", "shared.weight", "vit.embeddings.cls_token", "resnet.embedder.w"),
        "conv1.weight",
    ]  # fmt: skip
    after = [
        *("model.norm.weight", "lm_head.weight", "transformer.ln_f.weight", "embed_out.weight"),
        "bert.pooler.dense.weight",
        *("classifier.weight", "vit.layernorm.weight", "model.decoder.project_out.weight", "score.weight"),
    ]  # fmt: skip
    assert all(before_layers(name) for name in before)
    assert not any(before_layers(name) for name in after)


def test_modules_claim_tensors_by_prefix() -> None:
    names = ["shared.weight", "encoder.a.w", "decoder.a.w", "decoder.head.w"]
    claims, findings = claim(["encoder", "decoder.head", "default"], names)
    assert claims == [{"encoder.a.w"}, {"decoder.head.w"}, {"shared.weight", "decoder.a.w"}] and not findings
    claims, findings = claim(["decoder"], [f"model.{name}" for name in names])
    assert claims == [{"model.decoder.a.w", "model.decoder.head.w"}] and not findings
    _, findings = claim(["encodr"], names)
    assert "no tensor's name has the module 'encodr'; did you mean 'encoder' or" in findings[0].message
    _, findings = claim(["a"], names)
    assert "could be 'decoder.a' or 'encoder.a'" in findings[0].message
    claims, _ = claim(["vision_tower", "text_decoder"], ["visual.patch.w", "model.norm.w"])
    assert claims == [{"visual.patch.w"}, {"model.norm.w"}]


CONFIG = {
    "num_hidden_layers": 4,
    "layer_types": ["full", "slide", "full", "slide"],
    "mlp_only_layers": [1],
    "no_rope_layers": [1, 1, 0, 1],
    "hybrid_override_pattern": "MM*-",
    "eos_token_id": [1, 2, 3, 4],
    "hidden_size": 4,
    "vision_config": {"depth": 4, "fullatt_block_indexes": [1, 3]},
}


def test_config_follows_the_layers() -> None:
    other = {**CONFIG, "layer_types": ["A", "B", "C", "D"], "mlp_only_layers": [0, 3]}
    found, changed = follow_layers(
        CONFIG, "model.layers", 4, [(CONFIG, 0), (CONFIG, 1), (other, 0), (other, 3), (other, 3)]
    )
    assert found == {
        **CONFIG,
        "num_hidden_layers": 5,
        "layer_types": ["full", "slide", "A", "D", "D"],
        "mlp_only_layers": [1, 2, 3, 4],
        "no_rope_layers": [1, 1, 1, 1, 1],
        "hybrid_override_pattern": "MMM--",
    }
    assert "num_hidden_layers" in changed and "eos_token_id" not in changed
    assert CONFIG["num_hidden_layers"] == 4


@pytest.mark.parametrize(
    ("config", "stack", "expected"),
    [
        (CONFIG, "visual.blocks", {**CONFIG, "vision_config": {"depth": 2, "fullatt_block_indexes": [1]}}),
        ({"num_layers": 4, "num_decoder_layers": 4}, "encoder.block", {"num_layers": 2, "num_decoder_layers": 4}),
        ({"num_layers": 4, "num_decoder_layers": 4}, "decoder.block", {"num_layers": 4, "num_decoder_layers": 2}),
        ({"text_config": {"n_layer": 4, "n_head": 4}}, "model.layers", {"text_config": {"n_layer": 2, "n_head": 4}}),
        ({"num_key_value_heads": [1, 2, 3, 4], "num_layers": 4}, "h", {"num_key_value_heads": [1, 4], "num_layers": 2}),
    ],
)  # fmt: skip
def test_config_of_one_of_several_stacks(config: dict, stack: str, expected: dict) -> None:
    assert follow_layers(config, stack, 4, [(config, 0), (config, 3)])[0] == expected


def test_a_config_that_counts_nothing_is_left_alone() -> None:
    config = {"hidden_size": 4, "num_hidden_layers": 7}
    assert follow_layers(config, "model.layers", 4, [(config, 0)]) == (config, [])
