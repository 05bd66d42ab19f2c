"""PEFT does the same with the same adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest

from lora_files import values
from tunemerge.checkpoint.adapter import open_adapter
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import open_model
from tunemerge.merge.lora.adapted import AdaptedModel
from tunemerge.merge.lora.files import extract_adapter

SMALL: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}


def make(kind: str) -> Any:
    import torch
    import transformers as t

    torch.manual_seed(0)
    if kind == "bert":
        return t.BertForSequenceClassification(t.BertConfig(vocab_size=60, **SMALL))
    if kind == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(vocab_size=60, num_key_value_heads=2, **SMALL))
    if kind == "tied":
        config = t.LlamaConfig(vocab_size=60, num_key_value_heads=2, tie_word_embeddings=True, **SMALL)
        return t.LlamaForCausalLM(config)
    if kind == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=60, n_positions=32, n_embd=32, n_layer=2, n_head=4))
    return t.ViTForImageClassification(t.ViTConfig(image_size=16, patch_size=8, **SMALL))


def change(model: Any, rank: int | None) -> None:
    """Move every parameter once: matrices by a product of this rank, the rest by anything; None: matrices alone."""
    import torch

    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2:
                r = rank or 3
                p.add_(torch.randn(p.shape[0], r) @ torch.randn(r, p.shape[1]) * 0.05)
            elif rank and "cls_token" not in name and "position" not in name:
                p.add_(torch.randn_like(p) * 0.05)


def state(folder: Path) -> dict[str, np.ndarray]:
    with open_model(open_checkpoint(folder)) as model:
        return {name: values(model, name) for name in model.tensors}


CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"target_modules": ["query", "dense", "word_embeddings"], "modules_to_save": ["classifier"]},
    "llama": {
        "target_modules": "all-linear",
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"k_proj": 3},
    },
    "gpt2": {"target_modules": ["c_attn", "c_proj"], "bias": "lora_only"},
    "vit": {"target_modules": ["q_proj", "projection"], "lora_bias": True},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_adapted_model_is_merge_and_unload(kind: str, tmp_path: Path) -> None:
    import torch

    model = make(kind)
    model.save_pretrained(tmp_path / "base")
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **CONFIGS[kind]))
    with torch.no_grad():
        for p in tuned.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * 0.05)
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    expected = state(tmp_path / "merged")
    checkpoint = open_checkpoint(tmp_path / "base")
    with open_model(checkpoint) as base:
        found = AdaptedModel(base, open_adapter(tmp_path / "adapter"), checkpoint.config)
        assert found.tensors.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(values(found, name), array, atol=2e-6, err_msg=name)
            assert kind != "llama" or "proj" not in name or not np.array_equal(array, values(base, name)), name


@pytest.mark.parametrize("kind", ["bert", "llama", "tied", "gpt2", "vit"])
def test_peft_loads_what_is_extracted(kind: str, tmp_path: Path) -> None:
    import torch

    model = make(kind).eval()
    model.save_pretrained(tmp_path / "base")
    change(model, 3)
    model.save_pretrained(tmp_path / "tuned")
    extract_adapter(tmp_path / "tuned", tmp_path / "base", tmp_path / "adapter", rank=3)
    inputs = (
        {"input_ids": torch.arange(2, 22).reshape(2, 10)}
        if kind != "vit"
        else {"pixel_values": torch.randn(2, 3, 16, 16)}
    )
    loaded = peft.PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected, found = model(**inputs)[0], loaded(**inputs)[0]
        assert float((type(model).from_pretrained(tmp_path / "base")(**inputs)[0] - expected).abs().max()) > 1e-2
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-5)
        unloaded = loaded.merge_and_unload()(**inputs)[0]
    np.testing.assert_allclose(unloaded.numpy(), expected.numpy(), atol=2e-5)
