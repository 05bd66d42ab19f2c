"""The low-rank adapter of the difference of two checkpoints, matrix by matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tunemerge.checkpoint.adapter_writer import LowRank, NewAdapter, Whole
from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.source import Model
from tunemerge.errors import UsageError
from tunemerge.findings import error, refuse_errors
from tunemerge.merge.lora.difference import Difference, differs
from tunemerge.merge.lora.spectrum import Approximation
from tunemerge.merge.lora.survey import Survey, is_matrix, saved_modules
from tunemerge.merge.runner import Progress, silent


@dataclass(frozen=True)
class Request:
    """At most `rank` everywhere, or the least rank that keeps the share `energy` of the squared norm; both: both.

    Tensors whose name contains one of `whole` are kept whole, those with one of `skip` left as the base has them.
    `device` is where torch computes.
    """

    rank: int | None = None
    energy: float | None = None
    whole: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class Row:
    """What became of one tensor that changed; "lost" is what was to be skipped or no adapter can hold.

    `energy` is the share of the squared norm of the change that is kept, `numbers` how many the adapter stores for it.
    """

    name: str
    shape: tuple[int, ...]
    form: Literal["low-rank", "whole", "lost"]
    rank: int | None
    energy: float
    numbers: int


@dataclass(frozen=True)
class Extraction:
    """The adapter, and a row for every tensor that changed, in name order."""

    adapter: NewAdapter
    rows: tuple[Row, ...]


@dataclass
class _Found:
    """Filled while the tensors are looked at: by module, by tensor, and what changed and is not low-rank."""

    weights: dict[str, LowRank] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)


def extract(model: Model, base: Model, request: Request, seen: Survey, progress: Progress = silent) -> Extraction:
    """The adapter of `model` over `base`; `seen` is the survey of `model`.

    A matrix whose factors would be larger than itself, norms, heads that the base lacks and what `request.whole` names
    go whole into modules_to_save; biases of other modules are kept as they are. Raises UsageError where the model lacks
    tensors of the base, holds NaN or Inf, or differs in no matrix. Memory: the adapter, and the difference of one wide
    matrix or the square of the smaller side of a tall one.
    """
    _check(model, base, request)
    found = _Found()
    total, done = max(1, sum(info.size for info in model.tensors.values())), 0
    for name, info in sorted(model.tensors.items()):
        progress(done / total, name)
        done += info.size
        _look(name, info, model, base, request, seen, found)
    modules, biases = _place_whole(model, seen, found)
    progress(1.0, "")
    if not found.weights:
        why = f"no matrix differs from {base.label}"
        if any(is_matrix(seen.names[name], model.tensors[name]) for name in found.changed - found.skipped):
            why = "at this rank or share of energy no matrix has factors that are smaller than itself; ask for less"
        raise UsageError(f"{model.label}: {why}")
    adapter = NewAdapter(
        [found.weights[module] for module in sorted(found.weights)],
        _whole(model, seen, modules, biases),
        sorted(modules),
        bool(biases),
        {
            "fan_in_fan_out": any(name in seen.turned for name in found.rows if found.rows[name].form == "low-rank"),
        },
    )
    return Extraction(adapter, tuple(found.rows[name] for name in sorted(found.rows)))


def _check(model: Model, base: Model, request: Request) -> None:
    rank, energy = request.rank, request.energy
    missing = sorted(base.tensors.keys() - model.tensors.keys())
    problems = []
    if missing:
        text = f"lacks {len(missing)} of the {len(base.tensors)} tensors of {base.label}, first {missing[0]!r}"
        problems.append(error("tensor-names", text, model.label, "give the base that the model was tuned from"))
    if rank is not None and rank < 1:
        problems.append(error("lora-rank", f"the rank must be at least 1, not {rank}"))
    if energy is not None and not 0 < energy <= 1:
        problems.append(error("lora-energy", f"the share of energy must lie in (0, 1], not {energy}"))
    for part in (*request.whole, *request.skip):
        if not any(part in name for name in model.tensors):
            problems.append(error("lora-names", f"{part!r} is part of no tensor's name", model.label))
    refuse_errors(problems)


def _look(
    name: str, info: TensorInfo, model: Model, base: Model, request: Request, seen: Survey, found: _Found
) -> None:
    """Take one tensor into `found`, unless it did not change."""
    before = base.tensors.get(name)
    if before is None or before.shape != info.shape or (before.dtype in FLOATS) != (info.dtype in FLOATS):
        found.changed.add(name)
        return
    there, here = model.source(name), base.source(name)
    # PEFT adapts one of the modules that share a weight, or adds the change once for each: only whole copies are right.
    kept = seen.names[name] in seen.tied.values() or any(part in name for part in request.whole)
    matrix = info.dtype in FLOATS and is_matrix(seen.names[name], info) and not kept
    most = (info.size - 1) // sum(info.shape) if matrix else 0  # more, and the factors are larger than the matrix
    if any(part in name for part in request.skip):
        found.skipped.add(name)
        most = 0
    if not most:
        if differs(there, here, info.size):
            found.changed.add(name)
        return
    wanted = request.rank or most
    difference = Difference(there, here, (info.shape[0], info.shape[1]))
    near = difference.approximate(min(most, wanted), request.energy, request.device)
    enough = near.complete or wanted < most or near.energy >= (request.energy or 1)
    if not enough:
        found.changed.add(name)
    elif near.rank:
        weight = _weight(name, near, seen)
        found.weights[weight.module] = weight
        numbers = weight.a.size + weight.b.size
        found.rows[name] = Row(name, info.shape, "low-rank", near.rank, near.energy, numbers)


def _weight(name: str, near: Approximation, seen: Survey) -> LowRank:
    embedding = name in seen.embeddings
    b, a = (near.right.T, near.left.T) if embedding or name in seen.turned else (near.left, near.right)
    return LowRank(seen.module(name), b.astype("f4"), a.astype("f4"), embedding)


def _place_whole(model: Model, seen: Survey, found: _Found) -> tuple[set[str], set[str]]:
    """Where what is no product goes: (modules_to_save, biases). PEFT saves modules, so the rest is lost, and said."""
    modules, biases = set[str](), set[str]()
    matrices = {seen.module(name) for name in seen.names if seen.leaf(name) == "weight" and name not in found.changed}
    for name in sorted(found.changed - found.skipped):
        module = seen.module(name)
        if seen.leaf(name) == "bias" and module in matrices:
            biases.add(name)
        elif module and not saved_modules(module, seen) & seen.containers:
            modules |= saved_modules(module, seen)
    # A head that shares its weights with a saved embedding would keep the base's.
    modules |= {theirs.rpartition(".")[0] for theirs, ours in seen.tied.items() if ours.rpartition(".")[0] in modules}
    for module in modules:
        found.weights.pop(module, None)
    inside = {name for module in modules for name in seen.modules.get(module, ())}
    biases -= inside
    for name in found.changed | inside:
        info, kept = model.tensors[name], name in inside or name in biases
        form: Literal["whole", "lost"] = "whole" if kept else "lost"
        found.rows[name] = Row(name, info.shape, form, None, float(kept), info.size if kept else 0)
    return modules, biases


def _whole(model: Model, seen: Survey, modules: set[str], biases: set[str]) -> dict[str, Whole]:
    """What is saved whole, by name in the model; what is tied to something saved comes with it."""
    names = sorted({name for module in modules for name in seen.modules.get(module, ())} | biases)
    whole = {seen.names[name]: Whole(model.source(name), model.tensors[name].shape) for name in names}
    twins = {theirs: whole[ours] for theirs, ours in seen.tied.items() if ours in whole and theirs not in whole}
    return whole | twins
