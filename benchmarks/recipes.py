#!/usr/bin/env python3
"""The same recipes through mergekit and through tunemerge, and the largest difference of the outputs.

    python -m venv ENV && ENV/bin/pip install mergekit==0.1.5
    python benchmarks/recipes.py --peer ENV

Slices, gradients, filters, modules, tied heads and several documents on tiny llama-shaped models in float32.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

RECIPES = {
    "gradients and filters": """
merge_method: linear
models:
  - model: e0
    parameters:
      weight: [{filter: self_attn, value: [0.1, 0.5, 0.9]}, {filter: mlp, value: [1, 0.2]}, {value: 0.3}]
  - {model: e1, parameters: {weight: [0.9, 0.4]}}
  - {model: e2}
parameters: {weight: 0.25, normalize: false}
""",
    "a base that no method needs": """
merge_method: linear
base_model: base
models: [{model: e0, parameters: {weight: 0.7}}, {model: e1}]
parameters: {weight: 0.4}
""",
    "slices of shifted layers": """
merge_method: slerp
base_model: e1
slices:
  - sources: [{model: e0, layer_range: [0, 2]}, {model: e1, layer_range: [1, 3]}]
    parameters: {t: [0.1, 0.6]}
  - sources: [{model: e1, layer_range: [3, 4]}, {model: e0, layer_range: [2, 3]}]
parameters: {t: [0.3, 0.8]}
""",
    "levels of parameters": """
merge_method: task_arithmetic
base_model: base
slices:
  - sources:
      - {model: e0, layer_range: [1, 3], parameters: {weight: [0.2, 0.8]}}
      - {model: e1, layer_range: [1, 3], parameters: {weight: {filter: mlp, value: 0.9}}}
      - {model: base, layer_range: [1, 3]}
    parameters: {weight: 0.33, lambda: 0.7}
  - sources: [{model: e2, layer_range: [0, 3]}, {model: base, layer_range: [0, 3]}]
parameters: {weight: [0.5, 0.6]}
""",
    "a stack of two models, scaled": """
merge_method: passthrough
slices:
  - sources: [{model: e0, layer_range: [0, 3]}]
  - sources:
      - model: e1
        layer_range: [1, 4]
        parameters: {scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: [0.5, 1.5]}, {value: 1}]}
""",
    "a module": """
merge_method: linear
modules:
  default:
    parameters: {weight: 0.9}
    slices:
      - sources:
          - {model: e0, layer_range: [0, 2], parameters: {weight: 0.1}}
          - {model: e1, layer_range: [0, 2]}
      - sources: [{model: e2, layer_range: [3, 4]}, {model: e1, layer_range: [2, 3]}]
        parameters: {weight: [0.3, 0.4]}
""",
    "a tied head": """
merge_method: linear
base_model: e0
models: [{model: e0, parameters: {weight: 0.3}}, {model: tied, parameters: {weight: 0.7}}]
""",
    "several documents": """
name: left
merge_method: linear
models: [{model: e0}, {model: e1}]
parameters: {weight: 0.5}
---
merge_method: task_arithmetic
base_model: base
models: [{model: right, parameters: {weight: 0.6}}, {model: left, parameters: {weight: [0.1, 0.9]}}]
---
name: right
merge_method: slerp
base_model: left
models: [{model: e2}]
parameters: {t: 0.25}
""",
}


def make_model(folder: Path, seed: int, tied: bool = False) -> None:
    """A llama of four layers: one set of weights, and from `seed` 1 on a small random move away from it."""
    shapes = {"model.embed_tokens.weight": (50, 16), "model.norm.weight": (16,)}
    shapes |= {} if tied else {"lm_head.weight": (50, 16)}
    for i in range(4):
        parts = {"self_attn.q_proj": (16, 16), "self_attn.k_proj": (8, 16), "self_attn.v_proj": (8, 16)}
        parts |= {"self_attn.o_proj": (16, 16), "mlp.gate_proj": (32, 16), "mlp.up_proj": (32, 16)}
        parts |= {"mlp.down_proj": (16, 32), "input_layernorm": (16,), "post_attention_layernorm": (16,)}
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in parts.items()}
    start, move = np.random.default_rng(0), np.random.default_rng(100 + seed)
    state = {}
    for name in sorted(shapes):
        value = 0.02 * start.standard_normal(shapes[name])
        state[name] = (value + 0.002 * move.standard_normal(shapes[name]) * (seed > 0)).astype(np.float32)
    folder.mkdir()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = {
        **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 50, "hidden_size": 16},
        **{"intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1},
        **{"max_position_embeddings": 128, "tie_word_embeddings": tied, "dtype": "float32"},
    }
    (folder / "config.json").write_text(json.dumps(config))


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def difference(theirs: Path, ours: Path) -> str:
    a, b = (load_file(folder / "model.safetensors") for folder in (theirs, ours))
    if a.keys() != b.keys():
        return f"other tensors: {sorted(a.keys() ^ b.keys())[:3]}"
    return f"{max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in a):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="an environment with mergekit 0.1.5")
    peer = parser.parse_args().peer.absolute() / "bin"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for seed, name in enumerate(("base", "e0", "e1", "e2", "tied")):
            make_model(root / name, seed, name == "tied")
        for i, (what, text) in enumerate(RECIPES.items()):
            text = re.sub(r"model: (base|e\d|tied)\b", rf"model: {root}/\1", text)
            documents = [f"{document.strip()}\ndtype: float32\n" for document in text.split("---")]
            (root / "recipe.yaml").write_text("---\n".join(documents))
            theirs, ours = f"theirs{i}", f"ours{i}"
            if len(documents) > 1:
                # a relative folder would be taken for the name of a model on the Hub
                middle = ["-I", str(root / "intermediates"), "--out-path", theirs]
                run([str(peer / "mergekit-multi"), "recipe.yaml", *middle], root)
            else:
                run([str(peer / "mergekit-yaml"), "recipe.yaml", theirs], root)
            run([sys.executable, "-m", "tunemerge", "merge", "recipe.yaml", ours], root)
            print(f"{what:<32} {difference(root / theirs, root / ours)}", flush=True)


if __name__ == "__main__":
    main()
