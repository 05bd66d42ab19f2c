"""The files of made models: a network into a folder and back, with a head for what a study predicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import SINGLE
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.registry import listed, nearest
from tunemerge.tasks.fitted import read_fitted, write_fitted
from tunemerge.tasks.made_network import Description, body, head_of, is_made, logits, make, own_labels, set_dropout
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import Loaded

__all__ = ["body", "initialise", "is_made", "load", "logits", "own_labels", "save"]


def initialise(
    folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
) -> None:
    """Write the model that `folder` describes to `out`: drawn from `seed`, then the tensors of `folder`'s weights.

    A head stays where its labels are known, its outputs put into the order of `spec`; else it is as drawn. Raises
    UsageError where weights and network differ in anything but the head.
    """
    from transformers import set_seed

    described = Description.read(folder)
    set_seed(seed % 2**32)
    net = make(described, len(spec.labels), fitted)
    described = replace(described, head=head_of(described, net, len(spec.labels), fitted))
    if (folder / SINGLE).is_file() and not described.drawn:
        _take(net, folder, described, spec.labels)
    made = Loaded(net, spec, folder, fitted)
    net.tunemerge_made = described
    set_dropout(net, dropout, described)
    save(made, out)


def load(folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
    """The model of a folder that `save` wrote. UsageError where it predicts something else, or its code is unknown."""
    described, fitted = Description.read(folder), read_fitted(folder)
    if list(described.labels) != list(spec.labels):
        raise UsageError(
            f"{folder / 'config.json'}: its outputs are {listed(described.labels) or 'not known'}; expected "
            f"{listed(spec.labels)} in this order. Give the model a head for these labels first (operation init)"
        )
    import torch

    with torch.random.fork_rng():
        net = make(described, len(spec.labels), fitted)
    _load_all(net, folder)
    set_dropout(net, dropout, described)
    return Loaded(net, spec, folder, fitted)


def save(model: Loaded, out: Path) -> None:
    """config.json, model.safetensors (every tensor of the state, float32) and what was fitted."""
    from safetensors.torch import save_file

    described: Description = model.net.tunemerge_made
    replace(described, labels=tuple(model.spec.labels), drawn=False).write(out)
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.net.state_dict().items()}
    save_file(state, out / SINGLE, {"format": "pt"})
    write_fitted(out, model.fitted)


def _state(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / SINGLE)


def _load_all(net: Any, folder: Path) -> None:
    state, own = _state(folder), net.state_dict()
    _refuse(folder, [n for n in own if n not in state], [n for n in state if n not in own])
    _refuse_shapes(folder, ((n, state[n].shape, t.shape) for n, t in own.items()))
    net.load_state_dict(state)


def _take(net: Any, folder: Path, described: Description, labels: Sequence[str]) -> None:
    """Put the weights of `folder` into the network, the head's only where it is known what they predict."""
    import torch

    state, own, heads = _state(folder), net.state_dict(), dict(described.head)
    _refuse(folder, [n for n in own if n not in state and n not in heads], [n for n in state if n not in own])
    if not described.labels:
        state = {name: tensor for name, tensor in state.items() if name not in heads}
    else:
        picked = _places(described.labels, labels, folder)
        for name in heads:
            if name in state:
                state[name] = state[name].index_select(heads[name], torch.tensor(picked))
    _refuse_shapes(folder, ((n, t.shape, own[n].shape) for n, t in state.items()))
    net.load_state_dict(state, strict=False)


def _places(found: Sequence[str], wanted: Sequence[str], folder: Path) -> list[int]:
    for label in wanted:
        if label not in found:
            near = nearest(label, list(found))
            raise UsageError(f"{folder}: its outputs are {listed(found)}, without {label!r}{near}")
    return [list(found).index(label) for label in wanted]


def _refuse(folder: Path, missing: Sequence[str], strange: Sequence[str]) -> None:
    parts = [f"lacks {listed(missing, 3)}"] if missing else []
    parts += [f"has {listed(strange, 3)}, which the network lacks"] if strange else []
    if parts:
        said = " and ".join(parts)
        raise CheckpointError(f"{folder / SINGLE}: {said}: weights of another network, or other `config`")


def _refuse_shapes(folder: Path, shapes: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    for name, found, expected in shapes:
        if tuple(found) != tuple(expected):
            text = f"{name} has the shape {list(found)}; the network's is {list(expected)}: other `config`?"
            raise CheckpointError(f"{folder / SINGLE}: {text}")
