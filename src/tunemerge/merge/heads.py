"""Merging the output layer of models with several heads: every row is merged from the models that have learned it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.dtypes import Array
from tunemerge.checkpoint.heads import Heads, read_heads, write_heads
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.merge.memory import State, merge_state
from tunemerge.merge.method import METHODS


def merge_rows(
    heads: Sequence[Heads],
    states: Sequence[State],
    base: State | None,
    method: str,
    parameters: Mapping[str, Any],
    *,
    seed: int = 0,
    average: Collection[str] = (),
) -> dict[str, Array]:
    """The tensors of the merged output layer, (labels, ...) each, of models with these heads and tensors.

    Rows that several models have learned are merged by the method, with these models' values of `parameters`; rows
    that one has learned are that model's, unchanged; rows that nobody has learned are merged from all. A method that
    can't merge so few models gives way to the mean.
    """
    out = {name: states[0][name].copy() for name in heads[0].tensors}
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, label in enumerate(heads[0].labels):
        able = tuple(i for i, known in enumerate(heads) if label in known.learned) or tuple(range(len(heads)))
        groups.setdefault(able, []).append(row)
    for able, rows in groups.items():
        parts = [{name: states[i][name][rows] for name in out} for i in able]
        under = {name: base[name][rows] for name in out} if base is not None else None
        name, own = method, {key: _of(value, able, len(heads)) for key, value in parameters.items()}
        if METHODS[method].refuses(len(able), under is not None):
            name, own, under = "linear", {}, None
        merged = merge_state(name, parts, under, own, seed=seed, average=average) if len(able) > 1 else parts[0]
        for tensor, values in merged.items():
            out[tensor][rows] = values
    return out


def _of(value: Any, able: Sequence[int], models: int) -> Any:
    """What a parameter is for these models, where it has a value for each."""
    return [value[i] for i in able] if isinstance(value, list) and len(value) == models else value


def merge_head_files(
    models: Sequence[Path],
    base: Path | None,
    method: str,
    parameters: Mapping[str, Any],
    *,
    seed: int,
    average: Collection[str],
) -> dict[str, Array]:
    """The same of model folders; nothing where they have one head."""
    heads = [known for folder in models if (known := read_heads(folder))]
    if not heads:
        return {}
    states = [_layer(folder, heads[0].tensors) for folder in models]
    under = _layer(base, heads[0].tensors) if base is not None else None
    return merge_rows(heads, states, under, method, parameters, seed=seed, average=average)


def pass_on_heads(models: Sequence[Path], out: Path) -> None:
    """Write the record of the merge: it has learned what any of the models has. Nothing where they have one head."""
    heads = [known for folder in models if (known := read_heads(folder))]
    if heads:
        write_heads(out, replace(heads[0], learned=frozenset().union(*(h.learned for h in heads))))


def _layer(folder: Path, names: Sequence[str]) -> dict[str, Array]:
    checkpoint = open_checkpoint(folder)
    return {name: read_tensor(checkpoint, name) for name in names}
