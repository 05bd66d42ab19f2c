"""What names tell, on names of real models."""

from __future__ import annotations

import pytest

from tunemerge.checkpoint import naming

# name: is it a table, a table of words, a head over words?
NAMES = {
    "model.embed_tokens.weight": (True, True, False),
    "bert.embeddings.word_embeddings.weight": (True, True, False),
    "bert.embeddings.position_embeddings.weight": (True, False, False),
    "bert.embeddings.token_type_embeddings.weight": (True, False, False),
    "transformer.wte.weight": (True, True, False),
    "transformer.wpe.weight": (True, False, False),
    "gpt_neox.embed_in.weight": (True, True, False),
    "embed_out.weight": (False, False, True),
    "lm_head.weight": (False, False, True),
    "lm_head.bias": (False, False, True),
    "shared.weight": (True, True, False),
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (True, False, False),
    "vit.embeddings.cls_token": (True, False, False),
    "pos_embed": (True, False, False),
    "bert.encoder.layer.3.attention.self.query.weight": (False, False, False),
    "model.layers.11.mlp.up_proj.weight": (False, False, False),
    "classifier.weight": (False, False, False),
    "fc.weight": (False, False, False),
}


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_heads(name: str) -> None:
    assert (naming.is_table(name), naming.is_word_table(name), naming.is_word_head(name)) == NAMES[name]


def test_names_that_other_parts_have_too() -> None:
    maybe = ("output.weight", "cls.predictions.decoder.weight", "cls.predictions.bias", "lm_head.weight", "head.weight")
    assert all(naming.may_be_word_head(name) for name in maybe)
    assert not naming.may_be_word_head("encoder.layer.0.output.dense.weight")


def test_numbers_of_layers() -> None:
    name = "blocks.3.experts.12.up.weight"
    assert naming.numbers(name) == [("blocks", 3, "experts.12.up.weight"), ("blocks.3.experts", 12, "up.weight")]
    assert naming.numbers("conv1.weight") == naming.numbers("a.0") == naming.numbers("a.1234567.b") == []


def test_buffers_and_task_heads() -> None:
    assert naming.is_buffer("model.layers.0.rotary_emb.inv_freq", "F32") and naming.is_buffer("anything", "I64")
    assert not naming.is_buffer("model.norm.weight", "F32")
    assert all(naming.is_task_head(n) for n in ("classifier.weight", "bert.pooler.dense.bias", "lm_head.weight"))
    assert not naming.is_task_head("bert.encoder.layer.0.output.dense.weight")
