"""Whole models over a common vocabulary, loaded and run by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenizing import ENGLISH, GREEK, Memory, save, train, whole
from tunemerge.merge.vocabulary import TokenizerRequest, plan_vocabulary, with_changes

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def make(kind: str, seed: int, rows: int) -> Any:
    """A Llama without, or a BERT with shared embeddings and a bias for each token. The last token ends a text."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    if kind == "BPE":
        config = LlamaConfig(vocab_size=rows + 3, eos_token_id=rows - 1, tie_word_embeddings=False, **SIZES)
        return LlamaForCausalLM(config)
    model = BertForMaskedLM(BertConfig(vocab_size=rows + 3, eos_token_id=rows - 1, **SIZES))
    torch.nn.init.normal_(model.cls.predictions.bias)
    return model


@pytest.mark.parametrize("kind", ["BPE", "WordPiece"])
def test_a_model_over_a_union_answers_as_before(kind: str, tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file, save_file
    from transformers import AutoTokenizer

    texts, folders, models = {"en": ENGLISH, "el": GREEK}, {}, []
    for i, (name, sentences) in enumerate(texts.items()):
        tokenizer = train(kind, sentences, added=[f"<|{name}|>"])
        folders[name] = save(tmp_path / name, tokenizer)
        models.append(make(kind, i, tokenizer.get_vocab_size()).eval())
        models[-1].save_pretrained(folders[name])
    vocabulary = plan_vocabulary(folders, None, TokenizerRequest("union", pad_to_multiple_of=32))
    assert vocabulary.tokenizer is not None and vocabulary.rows is not None
    memory = [Memory(name, load_file(folder / "model.safetensors")) for name, folder in folders.items()]
    views = vocabulary.apply(memory)
    for name, model, view in zip(folders, models, views, strict=True):
        out = tmp_path / f"{name}_out"
        out.mkdir()
        vocabulary.write(out)
        config = json.loads((folders[name] / "config.json").read_text())
        changed = with_changes(config, vocabulary.config_changes(name)["config.json"])
        (out / "config.json").write_text(json.dumps(changed))
        save_file({n: whole(view, n, 1000) for n in view.tensors}, out / "model.safetensors", {"format": "pt"})
        united = type(model).from_pretrained(out).eval()
        assert united.config.vocab_size == vocabulary.rows.count and united.config.vocab_size % 32 == 0
        tokenizer, old = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(folders[name])
        assert tokenizer.convert_ids_to_tokens([united.config.eos_token_id]) == ["<|en|>"]
        text = f"{texts[name][0]}<|{name}|>"
        ids, before = (t(text, return_tensors="pt")["input_ids"] for t in (tokenizer, old))
        with torch.no_grad():
            logits, expected = united(ids).logits[0], model(before).logits[0]
        known = [vocabulary.tokenizer.ids[token] for token in old.convert_ids_to_tokens(range(len(old)))]
        assert torch.allclose(logits[:, known], expected[:, : len(old)], atol=1e-6)
