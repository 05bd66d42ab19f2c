"""Merges of adapters tried on one resident language model: memory, time, and whether its bits come back.

    python benchmarks/resident.py --width 2048 --layers 22 [--whole] [--dtype float32]

A Llama-shaped model of random weights in bfloat16, 3 random adapters of rank 16 on all its matrices, 20 candidates,
each scored on 4 rows of 64 tokens. `--whole`: the same by whole models in memory, as merges that are no sum of adapters
are tried. Prints the peak memory of the process beside that after imports, seconds, and whether all bits of the
weights are the same before and after.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CANDIDATES, ADAPTERS, RANK = 20, 3, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="of the resident model")
    parser.add_argument("--whole", action="store_true")
    asked = parser.parse_args()
    import torch
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        size = _write_base(base, asked.width, asked.layers)
        paths = [_write_adapter(base, Path(scratch) / f"adapter{i}", i) for i in range(ADAPTERS)]
        dtype = getattr(torch, asked.dtype)
        print(f"{size / 1e6:.0f} M parameters, {size * dtype.itemsize / 1e9:.2f} GB in {asked.dtype}")
        rows = torch.randint(0, 1000, (4, 64), generator=torch.Generator().manual_seed(0))
        started, files = _reset_peak(), set(Path(scratch).rglob("*"))
        net: Any = LlamaForCausalLM.from_pretrained(base, dtype=dtype).eval()

        def score() -> float:
            with torch.no_grad():
                return -float(net(input_ids=rows, labels=rows).loss)

        shares = [tuple(np.random.default_rng(i).dirichlet(np.ones(ADAPTERS))) for i in range(CANDIDATES)]
        before, begun = _digest(net), time.perf_counter()
        found = (_by_whole_models if asked.whole else _on_one_model)(net, base, paths, shares, score)
        seconds = time.perf_counter() - begun
        print(f"{CANDIDATES} candidates in {seconds:.0f} s, scores {min(found):.4f} to {max(found):.4f}")
        print(f"peak {_peak() / 1e9:.2f} GB, {started / 1e9:.2f} GB before the model was loaded")
        print(f"files written: {len(set(Path(scratch).rglob('*')) - files)}; bits as before: {_digest(net) == before}")


def _on_one_model(net: Any, base: Path, paths: list[Path], shares: Any, score: Any) -> list[float]:
    from tunemerge.search.resident import try_weights

    return try_weights(net, base, paths, shares, score)


def _by_whole_models(net: Any, base: Path, paths: list[Path], shares: Any, score: Any) -> list[float]:
    """Every adapter's whole model, the base and a merge in memory beside the model that is scored."""
    import torch

    from tunemerge.checkpoint.adapter import open_adapter
    from tunemerge.checkpoint.model import open_checkpoint
    from tunemerge.merge.memory import merge_state
    from tunemerge.search.resident import summed

    states = []
    for path in paths:
        with summed(net, open_checkpoint(base), [open_adapter(path)], (1.0,)):
            states.append({n: p.detach().float().numpy().copy() for n, p in net.named_parameters()})
    start = {n: p.detach().float().numpy().copy() for n, p in net.named_parameters()}
    out = []
    for weights in shares:
        merged = merge_state("task_arithmetic", states, start, {"weight": list(weights)})
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(torch.from_numpy(merged[name]))
        out.append(score())
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.from_numpy(start[name]))
    return out


def _write_base(folder: Path, width: int, layers: int) -> int:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, hidden_size=width, intermediate_size=8 * width // 3 // 64 * 64, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def _write_adapter(base: Path, folder: Path, seed: int) -> Path:
    from tunemerge.checkpoint.adapter_writer import LowRank, NewAdapter, write_adapter
    from tunemerge.checkpoint.model import open_checkpoint

    rng = np.random.default_rng(seed)
    shapes = {n: i.shape for n, i in open_checkpoint(base).tensors.items() if ".layers." in n and len(i.shape) == 2}
    folder.mkdir()
    write_adapter(
        NewAdapter([LowRank(n.removesuffix(".weight"), _factor(rng, s[0], RANK), _factor(rng, RANK, s[1]))
                    for n, s in shapes.items()]),
        folder,
    )  # fmt: skip
    return folder


def _factor(rng: np.random.Generator, rows: int, columns: int) -> Any:
    return (rng.normal(size=(rows, columns)) / 50).astype(np.float32)


def _digest(net: Any) -> str:
    import torch

    found = hashlib.sha256()
    for _, tensor in sorted(net.state_dict().items()):
        found.update(tensor.contiguous().view(torch.uint8).numpy())
    return found.hexdigest()


def _reset_peak() -> int:
    """Forget the peak so far; the memory of the process now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
