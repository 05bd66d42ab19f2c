"""Series for the tests: waves with a season of four, and tiny networks that read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def waves(series: int, length: int, seed: int = 0, start: str = "2024-01-01") -> pd.DataFrame:
    """A long daily table: levels from 50 on, a season of four days and a little noise."""
    rng = np.random.default_rng(seed)
    days = pd.date_range(start, periods=length, freq="D").strftime("%Y-%m-%d")
    parts = []
    for number in range(series):
        wave = 5 * np.sin(2 * np.pi * (np.arange(length) + number) / 4) + 0.3 * rng.normal(size=length)
        parts.append(pd.DataFrame({"series": f"s{number}", "time": days, "value": 50 + 3 * number + wave}))
    return pd.concat(parts, ignore_index=True)


def tiny_series(folder: Path, kind: str, context: int, channels: int = 1) -> Path:
    """A PatchTSMixer ("patchtsmixer") or PatchTST ("patchtst") without a head, made once."""
    if folder.exists():
        return folder
    import torch
    from transformers import PatchTSMixerConfig, PatchTSMixerModel, PatchTSTConfig, PatchTSTModel

    torch.manual_seed(0)
    common = {"context_length": context, "patch_length": 4, "patch_stride": 4, "num_input_channels": channels}
    if kind == "patchtsmixer":
        net = PatchTSMixerModel(PatchTSMixerConfig(**common, d_model=16, num_layers=2))
    else:
        layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32, "norm_type": "layernorm"}
        net = PatchTSTModel(PatchTSTConfig(**common, d_model=16, do_mask_input=False, **layers))
    net.save_pretrained(folder)
    return folder
