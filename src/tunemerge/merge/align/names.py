"""What tensor names and shapes tell about a network: its linear layers, which way round they lie, where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.naming import is_number, is_table
from tunemerge.merge.align.groups import Axis, Group

Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Linear:
    """A linear layer `path` with weight and, perhaps, bias; `out_axis` is 1 where the weight is stored transposed."""

    path: str
    weight: str
    bias: str | None
    out_axis: int
    n_out: int
    n_in: int

    @property
    def scope(self) -> str:
        return scope(self.path)

    def outputs(self, start: int = 0, block: int = 1) -> tuple[Axis, ...]:
        """The output features: an axis of the weight, and the bias."""
        weight = Axis(self.weight, self.out_axis, start, block)
        return (weight, Axis(self.bias, 0, start, block)) if self.bias else (weight,)

    def inputs(self, block: int = 1) -> Axis:
        """The input features."""
        return Axis(self.weight, 1 - self.out_axis, 0, block)

    @property
    def names(self) -> set[str]:
        return {self.weight, self.bias} if self.bias else {self.weight}


@dataclass(frozen=True)
class Site:
    """A part of a transformer layer with a group of its own: an attention or a feed-forward block.

    `residual` are the axes, of `width` elements, by which it reads from and adds to the residual stream; `names` the
    tensors that are fully explained by both.
    """

    group: Group
    residual: tuple[Axis, ...]
    width: int
    names: frozenset[str]


def scope(path: str) -> str:
    """The innermost numbered part that a module is in ("encoder.layer.3"), or "" where there is none."""
    parts = path.split(".")
    inside = [i for i, part in enumerate(parts[:-1]) if is_number(part)]
    return ".".join(parts[: inside[-1] + 1]) if inside else ""


def linears(tensors: Tensors) -> dict[str, Linear]:
    """All linear layers by path. A square layer lies as the others of its scope; where these differ, it is left out."""
    found: dict[str, tuple[str, str | None]] = {}
    for name, info in tensors.items():
        path = re.sub(r"(\.|_)weight$", "", name)
        if path == name or len(info.shape) != 2 or info.dtype not in FLOATS or is_table(path):
            continue
        beside = name.removesuffix("weight") + "bias"
        found[path] = (name, beside if beside in tensors and len(tensors[beside].shape) == 1 else None)
    votes: dict[str, set[int]] = {}
    for path, (weight, bias) in found.items():
        axis = _out_axis(tensors[weight].shape, tensors[bias].shape[0] if bias else None)
        if axis is not None:
            votes.setdefault(scope(path), set()).add(axis)
    out = {}
    for path, (weight, bias) in found.items():
        shape = tensors[weight].shape
        size = tensors[bias].shape[0] if bias else None
        usual = votes.get(scope(path), {0})
        axis = _out_axis(shape, size)
        if axis is None and len(usual) == 1 and (size is None or size in shape):
            axis = next(iter(usual))
        if axis is not None:
            out[path] = Linear(path, weight, bias, axis, shape[axis], shape[1 - axis])
    return out


def _out_axis(shape: tuple[int, ...], bias: int | None) -> int | None:
    """Which axis the outputs are on, where the bias tells."""
    if bias is None or shape[0] == shape[1] or bias not in shape:
        return None
    return shape.index(bias)


def below(path: str, names: Iterable[str]) -> set[str]:
    """The tensors inside the module `path`; all where it is ""."""
    return {name for name in names if not path or name.startswith(path + ".")}


def without_numbers(path: str) -> str:
    """ "layers.3.attn" and "layers.4.attn" are the same to this."""
    return re.sub(r"\d+", "#", path)


def natural(path: str) -> list[tuple[int, int, str]]:
    """A sort key by which layer 10 comes after layer 9."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)|\.", path) if p]
