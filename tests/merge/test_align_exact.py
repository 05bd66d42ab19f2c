"""Permuting by the derived groups changes nothing that a real network computes, and matching undoes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from torch import nn

from tunemerge.checkpoint.dtypes import NUMPY
from tunemerge.checkpoint.source import ArrayModel, Model
from tunemerge.merge.align.align import align_models
from tunemerge.merge.align.derive import Derived, derive_groups
from tunemerge.merge.align.groups import Group
from tunemerge.merge.align.orders import Orders, identity, rearranged, unmoved
from tunemerge.merge.align.permuted import PermutedModel

State = dict[str, np.ndarray]
Run = Callable[[State], torch.Tensor]


def arrays(model: Model) -> State:
    out = {}
    for name, info in model.tensors.items():
        out[name] = np.empty(info.shape, NUMPY[info.dtype])
        model.source(name).read_into(out[name].reshape(-1), 0)
    return out


def shuffled(groups: Sequence[Group], model: Model, seed: int) -> Orders:
    """Every group permuted at random, on both levels."""
    generator = np.random.default_rng(seed)
    orders = identity(groups, model.tensors)
    for group in groups:
        inside = unmoved(group)
        for unit in range(group.units):
            for symmetry in group.inside:
                chosen = generator.permutation(symmetry.units)
                for part in symmetry.parts:
                    at = part.start + np.arange(symmetry.units * part.block).reshape(symmetry.units, part.block)
                    within = inside[part.entry][unit]
                    within[at.reshape(-1)] = within[at[chosen].reshape(-1)]
        units = generator.permutation(group.units) if group.movable else np.arange(group.units)
        orders = rearranged(orders, group, units, inside)
    return orders


def scramble(module: nn.Module) -> None:
    """Random weights, biases and statistics everywhere, so that no tensor is without effect."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            fan = p[0].numel() if p.ndim > 1 else 10
            around_one = p.ndim == 1 and "weight" in name
            p.copy_(torch.randn_like(p) * fan**-0.5 + float(around_one))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.randn_like(b) / 10)
            elif name.endswith("running_var"):
                b.copy_(torch.rand_like(b) + 0.1)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


def check_exact(state: State, derived: Derived, run: Run) -> None:
    """Same function after a random permutation; another one if an axis is forgotten; matching finds the way back."""
    model = ArrayModel("original", state)
    expected = run(state)
    assert float(expected.std(dim=0).max()) > 1e-3 * float(expected.abs().max()), "the output ignores the input"
    orders = shuffled(derived.groups, model, 1)
    permuted = arrays(PermutedModel(model, orders))
    assert distance(expected, run(permuted)) <= 1e-5
    for group in derived.groups:
        one = shuffled([group], model, 2)
        forgotten = max(one, key=lambda key: (model.tensors[key[0]].size, key))
        one[forgotten] = np.arange(one[forgotten].size)
        assert distance(expected, run(arrays(PermutedModel(model, one)))) > 1e-4, (group.name, forgotten)
    result = align_models([model, ArrayModel("permuted", permuted)], groups=derived.groups, seed=3)
    back = arrays(result.models[1])
    for name, values in state.items():
        np.testing.assert_array_equal(back[name], values, name)
        np.testing.assert_array_equal((back[name] + values) / 2 if values.dtype == np.float32 else values, values)
    assert result.reports[0].before < 0.95 < 0.999999 < result.reports[0].after
    assert all(group.after > 0.999999 for group in result.reports[0].groups)


TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**TEXT, "num_key_value_heads": 2}
IMAGE = {**TEXT, "image_size": 16, "patch_size": 8}
T5 = {"vocab_size": 60, "d_model": 24, "d_kv": 6, "num_layers": 2, "num_heads": 4, "d_ff": 40}
SERIES = {
    "d_model": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 24,
    "context_length": 32,
    "prediction_length": 4,
    "num_input_channels": 2,
    "patch_length": 4,
    "patch_stride": 4,
}
# class, its settings, number of groups, of them the residual stream, heads that move
MODELS = {
    "bert": ("BertForSequenceClassification", TEXT, 5, True, True),
    "bert_without_head": ("BertModel", TEXT, 4, False, True),
    "bert_masked": ("BertForMaskedLM", TEXT, 5, True, True),
    "roformer": ("RoFormerForMaskedLM", TEXT, 5, True, True),
    "llama": ("LlamaForCausalLM", GROUPED, 5, True, True),
    "qwen3": ("Qwen3ForCausalLM", {**GROUPED, "head_dim": 8}, 5, True, True),
    "olmo2": ("Olmo2ForCausalLM", GROUPED, 5, True, True),
    "mixtral": ("MixtralForCausalLM", {**GROUPED, "num_local_experts": 2}, 7, True, True),
    "phi3": ("Phi3ForCausalLM", GROUPED, 5, True, True),
    "gpt2": ("GPT2LMHeadModel", TEXT, 5, True, True),
    "gpt_neox": ("GPTNeoXForCausalLM", TEXT, 5, True, True),
    "bloom": ("BloomForCausalLM", TEXT, 5, True, False),
    "t5": ("T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}, 11, True, False),
    "vit": ("ViTForImageClassification", IMAGE, 5, True, True),
    "patchtst": ("PatchTSTForPrediction", SERIES, 5, True, True),
    "resnet_basic": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"},
        5,
        False,
        True,
    ),
    "resnet_bottleneck": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2], "layer_type": "bottleneck"},
        11,
        False,
        True,
    ),
}


def inputs(name: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name in ("vit", "resnet_basic", "resnet_bottleneck"):
        return {
            "pixel_values": torch.randn(
                3, 3, 16 if name == "vit" else 64, *[16 if name == "vit" else 64], generator=generator
            )
        }
    if name == "patchtst":
        return {"past_values": torch.randn(3, 32, 2, generator=generator)}
    ids = torch.randint(3, 59, (3, 9), generator=generator)
    return {"input_ids": ids, "decoder_input_ids": ids.flip(0)} if name == "t5" else {"input_ids": ids}


@pytest.mark.parametrize("name", MODELS)
def test_transformers(name: str, tmp_path: Path) -> None:
    kind, settings, count, residual, movable = MODELS[name]
    cls = getattr(transformers, kind)
    module = cls(cls.config_class(**settings))
    scramble(module)
    module.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())

    def run(values: State) -> torch.Tensor:
        save_file(values, tmp_path / "model.safetensors", metadata={"format": "pt"})
        loaded = cls.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            out = loaded(**inputs(name))
        key = next(k for k in ("logits", "prediction_outputs", "last_hidden_state") if k in out)
        return out[key]

    derived = derive_groups(ArrayModel(name, state).tensors, config, name)
    groups = {group.name: group for group in derived.groups}
    assert len(groups) == count
    assert ("residual" in groups) == residual
    attention = [g for g in derived.groups if g.inside]
    assert all(g.movable for g in attention if "EncDec" not in g.name) == movable
    check_exact(state, derived, run)


class Block(nn.Module):
    """A residual block as torchvision names it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = nn.Sequential(nn.Conv2d(before, after, 1), nn.BatchNorm2d(after)) if before != after else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class SmallResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.layer1 = nn.Sequential(Block(6, 6), Block(6, 6))
        self.layer2 = nn.Sequential(Block(6, 10), Block(10, 10))
        self.fc = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())).mean((2, 3)))


class Named(nn.Module):
    """Plain attributes, not in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(7)
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 7, 3)
        self.classifier = nn.Linear(7 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.classifier(nn.functional.adaptive_avg_pool2d(self.bn2(self.conv2(x)).relu(), 2).flatten(1))


def mobile_block(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6()),
        nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU6()),
        nn.Conv2d(hidden, width, 1),
        nn.BatchNorm2d(width),
    )


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.blocks = nn.ModuleList([mobile_block(6, 9), mobile_block(6, 8)])
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class ResidualMlp(nn.Module):
    """Equal widths everywhere: only the units within blocks may move."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 12), nn.Linear(12, 5)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"lin1": nn.Linear(12, 12), "lin2": nn.Linear(12, 12)}) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block["lin2"](block["lin1"](x).relu())
        return self.last(x)


def mlp() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 20), nn.LayerNorm(20), nn.PReLU(20), nn.Linear(20, 5))
    )


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(nn.Linear(7 * 4, 9), nn.ReLU(), nn.Linear(9, 5)),
    )


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(12, 3, 20, batch_first=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x.mean(1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any], list[str]]] = {
    "mlp": (mlp, (3, 12), {}, ["0", "2"]),
    "convolutional": (convolutional, (3, 3, 16, 16), {}, ["0", "4", "9"]),
    "named": (Named, (3, 3, 16, 16), {}, ["conv1", "conv2"]),
    "resnet": (
        SmallResNet,
        (3, 3, 8, 8),
        {},
        [*(f"layer{i}.{j}.conv1" for i in (1, 2) for j in (0, 1)), "from conv1", "from layer2.0"],
    ),
    "mobile": (Mobile, (3, 3, 8, 8), {}, ["blocks.0.0.0", "blocks.1.0.0", "from stem"]),
    "residual_mlp": (ResidualMlp, (3, 12), {}, ["blocks.0", "blocks.1"]),
    "torch_encoder": (
        Encoder,
        (3, 4, 12),
        {"num_attention_heads": 3},
        ["layers.0.self_attn", "layers.1.self_attn", "layers.0", "layers.1"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    make, shape, config, expected = NETWORKS[name]
    module = make().eval()
    scramble(module)
    state = {key: value.detach().numpy().copy() for key, value in module.state_dict().items()}
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def run(values: State) -> torch.Tensor:
        module.load_state_dict({key: torch.as_tensor(value) for key, value in values.items()})
        with torch.no_grad():
            return module(x)

    derived = derive_groups(ArrayModel(name, state).tensors, config, name)
    assert sorted(group.name for group in derived.groups) == sorted(expected)
    check_exact(state, derived, run)
