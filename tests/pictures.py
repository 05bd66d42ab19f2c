"""Small images whose label can be seen, and networks that see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

NETS = """\
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)
        self.top = nn.Linear(width * 16, outputs)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.top(self.drop(torch.relu(self.norm(self.stem(pixels))).flatten(1)))


def make(channels: int = 1, width: int = 8, outputs: int = 2) -> nn.Module:
    return Small(channels, width, outputs)


def broken(outputs: int) -> nn.Module:
    raise RuntimeError("no such layer")


def nothing(outputs: int) -> int:
    return outputs


def wrong_size(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(10, outputs))
"""


def images(n: int, seed: int = 0, channels: int = 1, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, side, side[, 3]) with a bright bar that stands (label 1) or lies (label 0), and the labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, n)
    pixels = draw.integers(0, 90, (n, side, side)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        at = draw.integers(1, side - 1)
        (image if label == 0 else image.T)[at] = 255
    return (pixels if channels == 1 else np.repeat(pixels[..., None], 3, axis=3)), labels


def table(n: int, seed: int = 0, channels: int = 1) -> pd.DataFrame:
    """A table as an NPZ file gives it."""
    pixels, labels = images(n, seed, channels)
    return pd.DataFrame({"image": list(pixels), "label": labels})


def write_npz(file: Path, n: int, seed: int) -> str:
    pixels, labels = images(n, seed)
    np.savez(file, image=pixels, label=labels)
    return file.name


def tiny_vit(folder: Path) -> Path:
    """A ViTModel without a head, 8 x 8 grey images."""
    import torch
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=8, patch_size=4,
        num_channels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def tiny_resnet(folder: Path) -> Path:
    """A ResNetModel without a head, coloured images of any size."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    return folder


def tiny_clip(folder: Path, words: str = "a photo of lying standing") -> Path:
    """A CLIPModel for 8 x 8 grey images, whose tokenizer knows these words and ends a text with <end>."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    marks = ["<pad>", "<unk>", "<start>", "<end>"]
    tokens = {word: i for i, word in enumerate([*marks, *dict.fromkeys(words.split())])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(mark, tokens[mark]) for mark in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    named = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **named).save_pretrained(folder)
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**tower, **ids, "vocab_size": len(tokens), "max_position_embeddings": 16},
        vision_config={**tower, "image_size": 8, "patch_size": 4, "num_channels": 1},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    return folder


def made_base(folder: Path, more: str = "") -> Path:
    """The folder of a made base, as a study writes it, its function's file loaded."""
    from tunemerge.plugins import load_plugin
    from tunemerge.tasks.made_network import Description

    (folder / "nets.py").write_text(NETS + more)
    Description("nets.py:make", {"width": 8}, load_plugin(folder / "nets.py").digest, drawn=True).write(folder)
    return folder
