"""What merging costs: against mergekit and against the least that any program could take, in one run.

    python benchmarks/merge.py methods --peer ~/mergekit-env   # every method, 430 M parameters in bfloat16
    python benchmarks/merge.py parity  --peer ~/mergekit-env   # the same outputs? 3 M parameters in float32
    python benchmarks/merge.py scaling                         # 1, 2, 4, 8 experts and three sizes
    python benchmarks/merge.py memory                          # peak memory at 430 M and at four times as many
    python benchmarks/merge.py start                           # a whole process with a model of 10 M parameters

Times are of whole processes with warm caches, the median of `--runs`; compare the ratios of one run only. The
floor is a program that starts Python with NumPy and Numba, reads the inputs once, and writes, hashes and
fsyncs the output. `--peer` is a virtual environment with mergekit in it; without it the floor remains.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tunemerge.checkpoint.dtypes import from_float32, to_float32
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.checkpoint.writer import CheckpointWriter, TensorSpec
from tunemerge.merge.method import METHODS

# A process's peak memory includes that of whoever started it, so a small program starts what is measured.
_TIMER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "wb"), stderr=subprocess.STDOUT)
_, status, used = os.wait4(child.pid, 0)
took = time.perf_counter() - start
print(json.dumps([took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)]))
"""
_FLOOR = """
import hashlib, os, sys
import numpy, numba
buffer = bytearray(16 << 20)
for path in sys.argv[2:]:
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
size, digest = os.path.getsize(sys.argv[2]), hashlib.sha256()
with open(sys.argv[1], "wb", buffering=0) as file:
    while size > 0:
        piece = memoryview(buffer)[: min(size, len(buffer))]
        digest.update(piece)
        size -= file.write(piece)
    os.fsync(file.fileno())
"""


@dataclass(frozen=True)
class Shape:
    """A Llama-like model: vocabulary, width, hidden width, layers, width of keys and values."""

    vocabulary: int
    width: int
    hidden: int
    layers: int
    keys: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        v, h, f, kv = self.vocabulary, self.width, self.hidden, self.keys
        out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, h), "lm_head.weight": (v, h)}
        for i in range(self.layers):
            at = f"model.layers.{i}."
            attention = {"q": (h, h), "k": (kv, h), "v": (kv, h), "o": (h, h)}
            out |= {f"{at}self_attn.{n}_proj.weight": s for n, s in attention.items()}
            out |= {f"{at}mlp.{n}_proj.weight": s for n, s in {"gate": (f, h), "up": (f, h), "down": (h, f)}.items()}
            out |= {f"{at}{n}_layernorm.weight": (h,) for n in ("input", "post_attention")}
        return out | {"model.norm.weight": (h,)}

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.tensors().values())

    @property
    def config(self) -> dict[str, Any]:
        heads = self.width // 64
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": self.keys // 64,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        }


SHAPES = {
    "3M": Shape(1000, 128, 512, 4, 64),
    "10M": Shape(8000, 256, 1024, 6, 128),
    "110M": Shape(16000, 640, 2560, 12, 128),
    "430M": Shape(32000, 1024, 4096, 24, 256),
    "1.7B": Shape(32000, 2048, 8192, 26, 512),
}


def make_models(root: Path, shape: Shape, dtype: str, experts: int) -> None:
    """A base and experts near it, those that are not there yet: tensor by tensor, the same numbers every time."""
    for k in range(experts + 1):
        folder = root / ("base" if k == 0 else f"e{k - 1}")
        if (folder / "config.json").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        specs = {name: TensorSpec(dtype, s) for name, s in shape.tensors().items()}
        with CheckpointWriter(folder, specs, {}, 1 << 62) as writer:
            for i, (name, s) in enumerate(sorted(shape.tensors().items())):
                size = math.prod(s)
                values = np.random.default_rng([0, i]).standard_normal(size, np.float32) * np.float32(0.02)
                if k:
                    values += np.random.default_rng([k, i]).standard_normal(size, np.float32) * np.float32(0.002)
                writer.write(name, 0, from_float32(values, dtype))
            writer.close()
        (folder / "config.json").write_text(json.dumps(shape.config))


def recipe(method: str, root: Path, dtype: str, experts: int = 3) -> tuple[dict[str, Any], list[Path]]:
    """A recipe in mergekit's format that uses the method's usual parameters, and the weight files that it reads."""
    known = METHODS[method]
    count = min(max(known.min_models, experts), known.max_models or experts)
    names = {p.name for p in known.parameters}
    usual = {"weight": 0.4, "density": 0.5, "epsilon": 0.1, "gamma": 0.01}
    own = {
        name: value for name, value in usual.items() if name in names and not (name == "epsilon" and "ram" in method)
    }
    models = [str(root / f"e{i}") for i in range(count)]
    out: dict[str, Any] = {"merge_method": method, "dtype": dtype}
    out["models"] = [{"model": m, **({"parameters": own} if own else {})} for m in models]
    whole = {"slerp": {"t": 0.4}, "nearswap": {"t": 0.001}, "sce": {"select_topk": 0.5}}.get(method)
    if whole:
        out["parameters"] = whole
    if known.base == "first":
        out["base_model"] = models[0]
    elif known.base == "needed":
        out["base_model"] = str(root / "base")
        models = [*models, str(root / "base")]
    return out, [Path(m) / "model.safetensors" for m in models]


@dataclass(frozen=True)
class Cost:
    """Medians over the runs of one command."""

    wall: float
    cpu: float
    memory: float


def measure(commands: Mapping[str, list[str]], outs: Mapping[str, Path], runs: int) -> dict[str, Cost]:
    """The commands in turn, `runs` times; what they write is removed before each time."""
    found: dict[str, list[list[float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            shutil.rmtree(outs[name], ignore_errors=True)
            outs[name].parent.mkdir(parents=True, exist_ok=True)
            log = outs[name].parent / f"{name}.log"
            timed = subprocess.run([sys.executable, "-c", _TIMER, str(log), *command], capture_output=True, check=True)
            *cost, code = json.loads(timed.stdout)
            if code:
                raise SystemExit(f"{' '.join(command)}\n{log.read_text(errors='replace')[-2000:]}")
            found[name].append(cost)
    return {name: Cost(*(statistics.median(c) for c in zip(*costs, strict=True))) for name, costs in found.items()}


def merge_costs(
    work: Path, written: dict[str, Any], inputs: list[Path], runs: int, peer: Path | None
) -> dict[str, Cost]:
    """Ours, the floor, and mergekit's where there is one, in turn."""
    path = work / "recipe.yaml"
    path.write_text(yaml.safe_dump(written))
    outs = {name: work / "out" / name for name in ("floor", "peer", "ours")}
    floor = f"import os; os.makedirs({str(outs['floor'])!r}, exist_ok=True)\n{_FLOOR}"
    commands = {"floor": [sys.executable, "-c", floor, str(outs["floor"] / "x"), *map(str, inputs)]}
    if peer:
        commands["peer"] = [str(peer / "bin" / "mergekit-yaml"), str(path), str(outs["peer"]), "--lazy-unpickle"]
    commands["ours"] = [sys.executable, "-m", "tunemerge", "merge", str(path), str(outs["ours"])]
    return measure(commands, outs, runs)


def show(columns: str, rows: Iterator[list[Any]]) -> None:
    """A table whose columns align, row by row as they come."""
    heads = columns.split("|")
    widths = [max(len(head), 8) for head in heads]
    widths[0] = 18

    def line(cells: list[str]) -> str:
        return cells[0].ljust(widths[0]) + "".join(f"  {c:>{w}}" for c, w in zip(cells[1:], widths[1:], strict=True))

    print(line(heads))
    for row in rows:
        print(line([_cell(value) for value in row]), flush=True)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.1e}"


def methods(args: argparse.Namespace) -> None:
    root = args.work / args.size / "bf16"
    make_models(root, SHAPES[args.size], "BF16", 3)

    def rows() -> Iterator[list[Any]]:
        for name in args.methods:
            written, inputs = recipe(name, root, "bfloat16")
            peer = args.peer if name in peer_methods(args.peer) else None
            cost = merge_costs(args.work, written, inputs, args.runs, peer)
            ours, floor = cost["ours"], cost["floor"]
            theirs = cost.get("peer")
            ratio = theirs.wall / ours.wall if theirs else "-"
            both = [theirs.wall, theirs.memory] if theirs else ["-", "-"]
            yield [name, ours.wall, ours.wall / floor.wall, ours.cpu, int(ours.memory), both[0], ratio, both[1]]

    show("method|ours s|x floor|CPU s|MB|mergekit s|ratio|its MB", rows())


def parity(args: argparse.Namespace) -> None:
    root = args.work / "3M" / "f32"
    make_models(root, SHAPES["3M"], "F32", 3)

    def rows() -> Iterator[list[Any]]:
        for name in args.methods:
            if name not in peer_methods(args.peer):
                continue
            written, inputs = recipe(name, root, "float32")
            merge_costs(args.work, written, inputs, 1, args.peer)
            ours, theirs = (open_checkpoint(args.work / "out" / who) for who in ("ours", "peer"))
            worst, apart, both, kept = 0.0, 0, [], []
            under = open_checkpoint(root / "base")
            for tensor in ours.tensors:
                a, b, base = (to_float32(read_tensor(m, tensor), "F32") for m in (ours, theirs, under))
                worst = max(worst, float(np.abs(a - b).max()))
                apart += int((np.abs(a - b) > 1e-5).sum())
                both.append([float(np.abs(x - base).sum()) for x in (a, b)])
                kept.append([float((x != base).sum()) for x in (a, b)])
            norm, changed = np.array(both).sum(0), np.array(kept).sum(0)
            yield [name, worst, apart, float(norm[0] / norm[1]), float(changed[0] / changed[1]), METHODS[name].random]

    show("method|largest difference|apart by > 1e-5|L1 ratio|changed ratio|random", rows())


def scaling(args: argparse.Namespace) -> None:
    def rows() -> Iterator[list[Any]]:
        for name in args.methods:
            for size in ("10M", "110M", "430M"):
                root = args.work / size / "bf16"
                make_models(root, SHAPES[size], "BF16", 8)
                for experts in (1, 2, 4, 8):
                    written, inputs = recipe(name, root, "bfloat16", experts)
                    cost = merge_costs(args.work, written, inputs, args.runs, None)
                    read = SHAPES[size].parameters * (experts + METHODS[name].needs_base) / 1e9
                    ours, floor = cost["ours"], cost["floor"]
                    yield [
                        f"{name} {size} x{experts}",
                        ours.wall,
                        ours.wall / floor.wall,
                        ours.cpu,
                        ours.cpu / read,
                        int(ours.memory),
                    ]

    show("merge|wall s|x floor|CPU s|CPU s a G parameters|MB", rows())


def memory(args: argparse.Namespace) -> None:
    def rows() -> Iterator[list[Any]]:
        for name in args.methods:
            peaks = []
            for size in ("430M", "1.7B"):
                root = args.work / size / "bf16"
                make_models(root, SHAPES[size], "BF16", 3)
                written, inputs = recipe(name, root, "bfloat16")
                peaks.append(merge_costs(args.work, written, inputs, 1, None)["ours"].memory)
            yield [name, *map(int, peaks), peaks[1] / peaks[0]]

    show("method|430M: MB|1.7B: MB|ratio", rows())


def start(args: argparse.Namespace) -> None:
    root = args.work / "10M" / "bf16"
    make_models(root, SHAPES["10M"], "BF16", 3)

    def rows() -> Iterator[list[Any]]:
        for name in args.methods:
            written, inputs = recipe(name, root, "bfloat16")
            cost = merge_costs(args.work, written, inputs, args.runs, None)
            yield [name, cost["ours"].wall, cost["floor"].wall]

    show("method|ours s|floor s", rows())


@cache
def peer_methods(peer: Path | None) -> set[str]:
    """The methods that this mergekit has."""
    if not peer:
        return set()
    code = "from mergekit.merge_methods.registry import registered_methods as m; print(*(x.spec.name for x in m()))"
    return set(
        subprocess.run([peer / "bin" / "python", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


def main() -> None:
    what: dict[str, Callable[[argparse.Namespace], None]] = {
        f.__name__: f for f in (methods, parity, scaling, memory, start)
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(what))
    parser.add_argument("--peer", type=Path, help="virtual environment that holds mergekit")
    parser.add_argument("--methods", default="", help="names with commas between; all where not given")
    parser.add_argument("--size", default="430M", choices=list(SHAPES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for the models, kept where given")
    args = parser.parse_args()
    usual = ["linear", "ties", "dare_ties"] if args.what == "scaling" else METHODS.names()
    args.methods = args.methods.split(",") if args.methods else usual
    with tempfile.TemporaryDirectory(prefix="merge-bench-") as temporary:
        args.work = args.work or Path(temporary)
        what[args.what](args)


if __name__ == "__main__":
    main()
