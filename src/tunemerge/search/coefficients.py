"""Chooses a merge's coefficients on validation rows: candidates are merged and scored in memory, none is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.checkpoint.adapter import FOLDER
from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.heads import read_heads
from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.checkpoint.reader import read_tensor, to_float32
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.graph.cost import Cost
from tunemerge.search.resident import try_weights
from tunemerge.stats.metrics import METRICS, score
from tunemerge.tasks import flops, hub
from tunemerge.tasks.batching import Inputs
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.meter import metered
from tunemerge.tasks.precision import torch_device
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.several import read_as, specs_of
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import SEVERAL, TASKS, Loaded, kind_of

State = dict[str, np.ndarray]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Trial:
    """One candidate and its score: the mean over the validation sets, higher is better."""

    parameters: Mapping[str, Any]
    score: float


@dataclass(frozen=True)
class Choice:
    """All trials in the order of the candidates, the index of the best (the first of equals), and what they cost."""

    trials: tuple[Trial, ...]
    chosen: int
    cost: Cost


def choose(
    models: Sequence[Path],
    base: Path | None,
    validation: Sequence[Path],
    *,
    method: str,
    candidates: Sequence[Mapping[str, Any]],
    task: Spec,
    metric: str = "log_loss",
    average: Sequence[str] = (),
    seed: int = 0,
    max_length: int = 256,
    precision: str = "auto",
    under: Path | None = None,
    progress: Progress = lambda fraction, message: None,
) -> Choice:
    """Merge `models` once per candidate, as a merge of files would, and score each merge on every validation split.

    In memory are all models, in the dtype they are stored in, one merge, and one torch model. Where all models are
    adapters on the model `under`, it is that one alone: candidates change it in place. Raises UsageError for no
    candidate or no rows, and TunemergeError where a candidate has no score (a metric that the rows leave undefined).
    """
    from tunemerge.merge.lora.weighted import shares_of

    if not candidates or not validation:
        raise UsageError("a search needs at least one candidate and one validation split")
    specs = specs_of(task)
    own = [specs[number] for number in task.options["rows"]] if task.kind == SEVERAL else [task] * len(validation)
    splits = [TASKS[spec.kind].read([path], spec) for spec, path in zip(own, validation, strict=True)]
    with hub.quiet():
        model = kind_of(task).load(under or models[0], task)
        net = model.net.to(torch_device())
        judged = [read_as(model, spec) for spec in own]
        encoded = [TASKS[m.spec.kind].encode(m, r, max_length) for m, r in zip(judged, splits, strict=True)]

        def scored(parameters: Mapping[str, Any]) -> float:
            return _score(judged, encoded, splits, metric, max_length, precision, parameters)

        with metered(net) as meter:
            if under is None:
                merging = _merging(net, models, base, method, average, seed)
                found = _each(candidates, merging, scored, progress)
            else:
                shares = [shares_of(method, parameters, len(models)) for parameters in candidates]
                tried = iter(candidates)
                adapters = [path / FOLDER for path in models]
                found = try_weights(net, under, adapters, shares, lambda: scored(next(tried)), progress)
        trials = [Trial(parameters, value) for parameters, value in zip(candidates, found, strict=True)]
        spent = flops.flops(meter.forward_shapes, flops.measure(judged[0], encoded[0], "", training=False))
    scores = [trial.score for trial in trials]
    cost = Cost(trials=len(trials), forward_examples=meter.forward_examples, forward_flops=spent)
    return Choice(tuple(trials), scores.index(max(scores)), cost)


def _merging(
    net: Any, models: Sequence[Path], base: Path | None, method: str, average: Sequence[str], seed: int
) -> Callable[[Mapping[str, Any]], None]:
    """A function that puts the merge with these parameters into the model."""
    from tunemerge.merge.heads import merge_rows
    from tunemerge.merge.memory import merge_state

    heads = [known for path in models if (known := read_heads(path))]
    checkpoints = [open_checkpoint(path) for path in models]
    start = open_checkpoint(base) if base is not None else None
    # What a merge of files writes: every tensor in the base's dtype, or the first model's.
    dtypes = {n: info.dtype for n, info in {**checkpoints[0].tensors, **(start.tensors if start else {})}.items()}
    states, base_state = [_state(c) for c in checkpoints], _state(start) if start else None

    def merge(parameters: Mapping[str, Any]) -> None:
        merged = merge_state(method, states, base_state, parameters, seed=seed, average=average)
        if heads:
            merged |= merge_rows(heads, states, base_state, method, parameters, seed=seed, average=average)
        _put(net, merged, dtypes, models[0])

    return merge


def _each(
    candidates: Sequence[Mapping[str, Any]],
    merge: Callable[[Mapping[str, Any]], None],
    scored: Callable[[Mapping[str, Any]], float],
    progress: Progress,
) -> list[float]:
    out: list[float] = []
    for number, parameters in enumerate(candidates):
        merge(parameters)
        out.append(scored(parameters))
        progress((number + 1) / len(candidates), f"candidate {number + 1}/{len(candidates)}, best {max(out):.3f}")
    return out


def _state(checkpoint: Checkpoint) -> State:
    return {name: read_tensor(checkpoint, name) for name in checkpoint.tensors}


def _put(net: Any, merged: State, dtypes: Mapping[str, str], folder: Path) -> None:
    """Copy the merged tensors into the model."""
    import torch

    target = _untied(net, merged)
    strange = sorted(set(merged) ^ set(target))
    if strange:
        raise UsageError(
            f"{folder}: tensor {strange[0]!r} is in only one of file and model class (and {len(strange) - 1} more): "
            "the checkpoint uses names of another version; load and save it with transformers once"
        )
    with torch.no_grad():
        for name, tensor in target.items():
            array = merged[name]
            tensor.copy_(torch.from_numpy(to_float32(array, dtypes[name]) if dtypes[name] in FLOATS else array))


def _untied(net: Any, names: Collection[str]) -> dict[str, Any]:
    """The tensors of a model by name; of those that are one in memory (tied embeddings) the names that a file has."""
    out: dict[str, Any] = {}
    known = set()
    for name, tensor in sorted(net.state_dict(keep_vars=True).items(), key=lambda item: item[0] not in names):
        if id(tensor) not in known or name in names:
            out[name] = tensor
        known.add(id(tensor))
    return out


def _score(
    models: Sequence[Loaded],
    encoded: Sequence[Inputs],
    splits: Sequence[Rows],
    metric: str,
    max_length: int,
    precision: str,
    parameters: Mapping[str, Any],
) -> float:
    """Mean of the metric over the splits, negated where lower is better."""
    values = []
    for model, inputs, rows in zip(models, encoded, splits, strict=True):
        outputs = predictions(model, inputs, precision)
        if METRICS[metric].generated:
            outputs = TASKS[model.spec.kind].answer(model, rows, outputs, max_length)
        values.append(score(METRICS[metric], rows.target, outputs, rows.weight))
    mean = float(np.mean(values))
    if not np.isfinite(mean):
        raise TunemergeError(
            f"{metric} of the merge with {dict(parameters)} is {mean}: the merge has no finite predictions, "
            f"or a validation split lacks what {metric} needs (two classes, for one)"
        )
    return mean
