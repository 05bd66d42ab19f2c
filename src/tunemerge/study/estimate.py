"""What a plan will cost, before it runs: FLOPs, minutes on this machine, disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from tunemerge.findings import Finding, error, warning
from tunemerge.graph.plan import parent_steps
from tunemerge.graph.run import look_up
from tunemerge.graph.step import Leaf, Step
from tunemerge.machine import cores, free_memory
from tunemerge.store.artifacts import Store
from tunemerge.study.passes import Network, Passes, Reader, network_of
from tunemerge.study.plan import StudyPlan
from tunemerge.study.speed import product_speed
from tunemerge.tasks.precision import device, uses_bf16
from tunemerge.tasks.task import TASKS

# Steps that write a model.
WRITERS = ("init", "tune", "merge")

# What small batches reach of the speed of a large float32 matrix product: (training, forward). Measured with MiniLM,
# sentences of 17 tokens, two workers side by side: 145 and 210 GFLOP/s in bfloat16 where the product ran at 125.
_EFFICIENCY = {False: (0.42, 0.55), True: (1.2, 1.65)}
# Seconds: of a worker's first step (torch and transformers are imported), an optimizer step's own, a forward batch's.
_IMPORTS, _PER_UPDATE, _PER_BATCH = 5.0, 0.006, 0.002
# Bytes a second: read from files, written with digests and fsync, merged in memory.
_READ, _WRITE, _MERGE = 1.5e9, 2.5e8, 1.2e9
# Bytes of a worker beside what grows with the model: 470 steps on a model of 4 MB peaked at 0.9 to 1.37 GB.
_WORKER = 1_300_000_000
# What the truth may be of the estimate: where nothing has run here, and where steps of this study have.
_GUESSED, _MEASURED = (0.6, 1.7), (0.8, 1.3)
_ENOUGH = 3


@dataclass(frozen=True)
class Estimate:
    """Of one step: floating-point operations, seconds of one worker, bytes on disk; bytes of memory, without what
    passes through the layers, which follows from the batch."""

    flops: float
    seconds: float
    disk: int
    memory: int = 0


@dataclass(frozen=True)
class Forecast:
    """`steps`: those that the store lacks, by key. `longest`: seconds of the longest chain among them. `spread`: what
    the truth may be of the seconds, as factors; None where they say nothing (a GPU on which nothing has run yet)."""

    steps: Mapping[str, Estimate]
    longest: float
    spread: tuple[float, float] | None

    def wall(self, workers: int) -> tuple[float, float] | None:
        """Seconds that the run will take, from and to."""
        if self.spread is None or not self.steps:
            return None if self.steps else (0.0, 0.0)
        seconds = _IMPORTS + max(self.longest, sum(e.seconds for e in self.steps.values()) / workers)
        return self.spread[0] * seconds, self.spread[1] * seconds


def forecast(plan: StudyPlan, store: Store) -> Forecast:
    """Estimates for every step of the plan that the store lacks. Seconds follow the steps that the store has."""
    leaf = _model_leaf(plan)
    net, kind = _network(plan), TASKS[plan.rows.spec.kind]
    reader = Reader(leaf.path, plan.rows.tables, plan.config.tuning.max_length, kind)
    speed = _speed(plan.config.tuning.precision)
    guesses = {s.key: _guess(s, reader.passes(s), net, speed) for s in plan.graph.steps}
    took: dict[str, list[float]] = {}
    state = look_up(plan.graph, store)
    there = {**state.stripped, **state.artifacts}
    for step in plan.graph.steps:
        guess = guesses[step.key] if step.key in state.missing else guesses.pop(step.key)
        artifact = there.get(step.key)
        if artifact is not None:
            took.setdefault(step.op, []).append(float(artifact.cost["seconds"]) / guess.seconds)
    every = [ratio for ratios in took.values() for ratio in ratios]
    pace = {op: median(ratios) for op, ratios in took.items() if len(ratios) >= _ENOUGH}
    otherwise = median(every) if len(every) >= _ENOUGH else 1.0
    op = {s.key: s.op for s in plan.graph.steps}
    steps = {k: Estimate(e.flops, e.seconds * pace.get(op[k], otherwise), e.disk, e.memory) for k, e in guesses.items()}
    spread = _MEASURED if len(every) >= _ENOUGH else _GUESSED if device() == "cpu" else None
    return Forecast(steps, _longest(plan, steps), spread)


def _guess(step: Step, passes: Passes, net: Network, speed: tuple[float, float]) -> Estimate:
    train, forward = net.flops(passes, step.params.get("tuning"))
    models = len(step.inputs.get("models", ())) + len(step.inputs.get("base", ())) or 1
    merges = {"merge": 1, "search": len(step.params.get("candidates", ()))}.get(step.op, 0)
    writes = step.op in WRITERS
    seconds = 0.05 + train / speed[0] + forward / speed[1]
    seconds += _PER_UPDATE * sum(passes.train.values()) + _PER_BATCH * sum(passes.forward.values())
    seconds += net.bytes * (models / _READ + writes / _WRITE + merges * (models + 1) / _MERGE)
    return Estimate(train + forward, seconds, net.bytes if writes else 0, memory_of(step, net.bytes))


def memory_of(step: Step, size: int) -> int:
    """Bytes that a worker needs for a step with models of this size.

    Tuning all weights: weights, gradients, AdamW's two moments, the state that is kept. A search holds its models, the
    start, a merge and the network that is scored; adapters are tried on one network. Merges go block by block.
    """
    models = 1
    if step.op == "tune":
        models = 5 if step.params["tuning"]["method"] == "full" else 2
    elif step.op == "search" and not step.inputs.get("under"):
        models = len(step.inputs["models"]) + 3
    elif step.op == "merge":
        models = 0
    return _WORKER + models * size


def _longest(plan: StudyPlan, steps: Mapping[str, Estimate]) -> float:
    """Seconds of the longest chain of steps that wait for each other."""
    ends: dict[str, float] = {}
    for step in plan.graph.steps:  # parents first
        begun = max((ends[p.key] for p in parent_steps(step)), default=0.0)
        ends[step.key] = begun + (steps[step.key].seconds if step.key in steps else 0.0)
    return max(ends.values(), default=0.0)


def _speed(precision: str) -> tuple[float, float]:
    """Usable FLOP/s of one core: (training, forward)."""
    product = product_speed()
    train, forward = _EFFICIENCY[device() == "cpu" and uses_bf16(precision, "cpu")]
    return train * product, forward * product


def _model_leaf(plan: StudyPlan) -> Leaf:
    return next(leaf for leaf in plan.graph.leaves if leaf.role == "model")


def _network(plan: StudyPlan) -> Network:
    return network_of(_model_leaf(plan).path, TASKS[plan.rows.spec.kind], plan.rows.spec)


def enough_disk(plan: StudyPlan, store: Store) -> list[Finding]:
    """An error when the models that the plan will write don't fit on the store's disk."""
    size = _network(plan).bytes
    missing = look_up(plan.graph, store).missing
    writes = sum(1 for s in plan.graph.steps if s.op in WRITERS and s.key in missing)
    need = int(1.05 * size * writes) + 50_000_000
    place = next(p for p in (store.root, *store.root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if need <= free:
        return []
    text = f"{writes} models of {size / 1e6:,.0f} MB need {need / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free"
    return [error("disk-full", text, str(place), "free some space, or fewer seeds, strategies or methods")]


def enough_memory(plan: StudyPlan) -> list[Finding]:
    """A warning when a worker on every core, each at the step that needs the most, may not fit."""
    size = _network(plan).bytes
    each = max((memory_of(step, size) for step in plan.graph.steps), default=0)
    need, free = each * cores(), free_memory()
    if free is None or need <= free:
        return []
    text = f"{cores()} workers need about {need / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are available"
    return [warning("memory-short", text, "memory", "close other programs, or take a smaller model")]
