from __future__ import annotations

from typing import Any

import pytest

from tunemerge.checkpoint.skeleton import skeleton

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    **{"vocab_size": 20, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "tie_word_embeddings": True,
}
TENSORS = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"]


def test_names_kinds_and_ties() -> None:
    built = skeleton(LLAMA, TENSORS)
    assert built is not None and dict(built.names) == {name: name for name in TENSORS}
    assert built.embeddings == {"model.embed_tokens"} and not built.turned
    assert dict(built.tied) == {"lm_head.weight": "model.embed_tokens.weight"}
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 20}
    built = skeleton(gpt2, ["h.0.attn.c_attn.weight", "wte.weight"])
    assert built is not None and "transformer.h.0.attn.c_attn" in built.turned
    assert built.names["wte.weight"] == "transformer.wte.weight"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architectures": "LlamaForCausalLM"},
        {"architectures": ["NoSuchModel"]},
        {"architectures": ["AutoModel"]},
        {"architectures": ["os"]},
        {**LLAMA, "hidden_size": "wide"},
        {**LLAMA, "num_hidden_layers": 10**12},
        {**LLAMA, "text_config": {"num_experts": 10**12}},
    ],
)
def test_where_nothing_can_be_built_nothing_is(config: dict[str, Any]) -> None:
    assert skeleton(config, TENSORS) is None
