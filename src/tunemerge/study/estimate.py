"""What a plan will cost, before it runs: FLOPs, minutes on this machine, disk."""

from __future__ import annotations

import shutil
import timeit
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.findings import Finding, error, warning
from tunemerge.graph.executors.local import available_cores
from tunemerge.graph.step import Leaf, Step
from tunemerge.store.artifacts import Store
from tunemerge.study.plan import StudyPlan, ancestors

# A rule of thumb: English words are about 1.3 WordPiece tokens of 4.5 characters, and every row has two special ones.
CHARACTERS_PER_TOKEN = 4.2
# Tuning small batches reaches this share of a large matrix product's speed.
EFFICIENCY = 0.45


@dataclass(frozen=True)
class Estimate:
    """Of one step: floating-point operations, seconds on one core here, bytes on disk."""

    flops: float
    seconds: float
    disk: int


def estimate(plan: StudyPlan, store: Store) -> Mapping[str, Estimate]:
    """A rough estimate for every step of the plan that the store lacks (by key)."""
    sizes = _sizes(plan)
    speed = _speed()
    out = {}
    for step in plan.graph.steps:
        if store.get(step.key) is None:
            flops = _flops(step, plan, sizes[0])
            disk = sizes[1] if step.op in ("init", "tune", "merge") else 0
            out[step.key] = Estimate(flops, flops / speed + 0.5, disk)
    return out


def enough_disk(plan: StudyPlan, store: Store) -> list[Finding]:
    """An error when the models that the plan will write don't fit on the store's disk."""
    size = _sizes(plan)[1]
    writes = sum(1 for s in plan.graph.steps if s.op in ("init", "tune", "merge") and store.get(s.key) is None)
    need = int(1.05 * size * writes) + 50_000_000
    place = next(p for p in (store.root, *store.root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if need <= free:
        return []
    text = f"{writes} models of {size / 1e6:,.0f} MB need {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free"
    return [error("disk-full", text, str(place), "free some space, or fewer seeds, strategies or methods")]


def enough_memory(plan: StudyPlan) -> list[Finding]:
    """A warning when two workers' tunings (weights, gradients, AdamW's two moments, the kept state) may not fit."""
    each = 5 * _sizes(plan)[1] + 1_000_000_000
    need, free = each * available_cores(), _available_memory()
    if free is None or need <= free:
        return []
    text = f"{available_cores()} workers need about {need / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are available"
    return [warning("memory-short", text, "memory", "close other programs, or take a smaller model")]


def _available_memory() -> int | None:
    """Bytes that programs can take without swapping; None where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def _sizes(plan: StudyPlan) -> tuple[int, int]:
    """(parameters that compute, bytes of a float32 checkpoint) of the study's models."""
    path = _model_leaf(plan).path
    tensors = open_checkpoint(path).tensors
    every = {name: prod(info.shape) for name, info in tensors.items()}
    computing = sum(n for name, n in every.items() if "embedding" not in name)
    return computing, 4 * sum(every.values())


def _model_leaf(plan: StudyPlan) -> Leaf:
    steps = ancestors(list(plan.graph.steps))
    return next(n for s in steps for n in s.parents() if isinstance(n, Leaf) and n.role == "model")


def _flops(step: Step, plan: StudyPlan, parameters: int) -> float:
    tables, limit = plan.rows.tables, plan.config.tuning.max_length

    def tokens(names: tuple[str, ...]) -> tuple[float, int]:
        texts = [t for n in names for leaf in step.inputs.get(n, ()) for t in tables[leaf.key]["text"]]
        return sum(min(limit, len(t) / CHARACTERS_PER_TOKEN + 2) for t in texts), max(1, len(texts))

    if step.op == "tune":
        total, rows = tokens(("train",))
        seen = float(step.params["examples"]) * total / rows
        checks = tokens(("validation",))[0] * plan.config.tuning.evaluations
        return parameters * (6 * seen + 2 * checks)
    passes = {"predict": len(step.inputs.get("models", ())), "search": len(step.params.get("candidates", ()))}
    return 2 * parameters * passes.get(step.op, 0) * tokens(("rows", "validation"))[0]


def _speed() -> float:
    """Usable FLOP/s of one core: a float32 matrix product, timed once."""
    a = np.ones((512, 512), np.float32)
    with threadpool_limits(1):
        a @ a
        seconds = timeit.timeit(lambda: a @ a, number=8)
    return EFFICIENCY * 8 * 2 * 512**3 / seconds
