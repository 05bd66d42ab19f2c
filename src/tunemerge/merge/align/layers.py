"""Networks without attention: their layers, which norm belongs to which, and in which order they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.naming import is_number, is_table_module
from tunemerge.merge.align.groups import Axis
from tunemerge.merge.align.names import Tensors, natural, without_numbers

_SHORTCUT = re.compile(r"(^|\.)(\w*shortcut|\w*downsample|skip\w*|identity\w*)(\.|$)", re.IGNORECASE)
_OTHER = re.compile(r"transpose|deconv|upconv", re.IGNORECASE)
"""Modules whose weights look like those of a layer but lie otherwise: transposed convolutions, lookup tables."""
_NUMBERED = re.compile(r"(.*?)(\d+)")
_MAX_STEPS = 20_000


class NotUnderstoodError(Exception):
    """Why no groups can be derived."""


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer and what follows it unit by unit: `outputs` are the axes of its units.

    `block` is the innermost numbered part that holds several layers, or ""; `shortcut`: beside the main path.
    """

    path: str
    weight: str
    shape: tuple[int, ...]
    block: str
    outputs: list[Axis] = field(compare=False, hash=False)

    @property
    def n_out(self) -> int:
        return self.shape[0]

    @property
    def n_in(self) -> int:
        return self.shape[1]

    @property
    def conv(self) -> bool:
        return len(self.shape) > 2

    @property
    def shortcut(self) -> bool:
        return bool(_SHORTCUT.search(self.path))

    def follows(self, width: int, after_conv: bool) -> int | None:
        """Elements of the input axis for each of `width` units before it; 0: unit by unit; None: does not fit."""
        if self.conv and not after_conv:
            return None
        if self.conv and self.n_in == 1 and self.n_out == width > 1:
            return 0
        if self.n_in == width:
            return 1
        return self.n_in // width if after_conv and not self.conv and self.n_in % width == 0 else None


def read_layers(tensors: Tensors) -> list[Layer]:
    """All layers, with their norms. Raises NotUnderstoodError for a tensor that is part of neither."""
    modules: dict[str, dict[str, str]] = {}
    for name, info in tensors.items():
        path, _, leaf = name.rpartition(".")
        if info.dtype in FLOATS and info.shape:
            modules.setdefault(path, {})[leaf] = name
        elif leaf != "num_batches_tracked":
            raise NotUnderstoodError(f"{name!r} ({info.dtype}) is part of no layer that is known")
    heavy: dict[str, dict[str, str]] = {}
    norms: dict[str, dict[str, str]] = {}
    for path, parts in modules.items():
        shape = tensors[parts["weight"]].shape if "weight" in parts else ()
        odd = parts.keys() - {"weight", "bias", "running_mean", "running_var"}
        sizes = {tensors[name].shape for leaf, name in parts.items() if leaf != "weight"}
        if odd or not shape or sizes - {shape[:1]} or _OTHER.search(path) or is_table_module(path):
            name = parts[min(odd)] if odd else next(iter(parts.values()))
            raise NotUnderstoodError(f"{name!r} is part of no layer that is known")
        (norms if len(shape) == 1 else heavy)[path] = parts
    blocks = {path: _block(path, list(heavy)) for path in heavy}
    layers = []
    for path in sorted(heavy, key=natural):
        parts = heavy[path]
        outputs = [Axis(parts[leaf], 0) for leaf in ("weight", "bias") if leaf in parts]
        layers.append(Layer(path, parts["weight"], tensors[parts["weight"]].shape, blocks[path], outputs))
    _attach_norms(layers, norms, tensors)
    return layers


def _block(path: str, paths: list[str]) -> str:
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        part = ".".join(parts[:end])
        inside = [p for p in paths if p.startswith(part + ".") and not _SHORTCUT.search(p)]
        if is_number(parts[end - 1]) and len(inside) > 1:
            return part
    return ""


def _attach_norms(layers: list[Layer], norms: dict[str, dict[str, str]], tensors: Tensors) -> None:
    """Give every layer's outputs the norm that runs after it.

    Numbers in one sequence tell which it follows. Where only names do (conv1 and bn1), a norm may as well run before
    its layer: then a layer of the same kind with other inputs than outputs must show that the sizes fit the outputs.
    """
    proved: dict[str, bool] = {}
    for path, parts in norms.items():
        size = tensors[parts["weight"]].shape[0]
        if size == 1:
            continue
        layer, sure = _before(path, layers, norms)
        if layer is None or layer.n_out != size:
            raise NotUnderstoodError(f"it can't be told which layer the norm {path!r} follows")
        if layer.conv and "running_mean" not in parts and "bias" in parts:
            raise NotUnderstoodError(f"the norm {path!r} may join channels in groups")
        kind = without_numbers(path.rpartition(".")[0])
        proved[kind] = proved.get(kind, False) or sure or layer.n_in not in (1, layer.n_out)
        layer.outputs.extend(Axis(name, 0) for name in parts.values())
    unsure = [kind for kind, yes in proved.items() if not yes]
    if unsure:
        raise NotUnderstoodError(
            f"it can't be told whether the norms in {unsure[0]!r} run before or after their layers"
        )


def _before(path: str, layers: list[Layer], norms: dict[str, dict[str, str]]) -> tuple[Layer | None, bool]:
    """The layer that a norm follows, and whether numbers in a sequence say so."""
    parent, _, own = path.rpartition(".")
    if is_number(own):
        depth = path.count(".")
        sequence = [(layer, layer.path.split(".")) for layer in layers if _parent(layer.path, depth) == parent]
        ahead = [layer for layer, parts in sequence if is_number(parts[depth]) and int(parts[depth]) < int(own)]
        return (max(ahead, key=lambda layer: natural(layer.path)) if ahead else None), True
    beside = [layer for layer in layers if layer.path.rpartition(".")[0] == parent]
    if len(beside) == 1 and sum(norm.rpartition(".")[0] == parent for norm in norms) == 1:
        return beside[0], False
    number = _NUMBERED.fullmatch(path)
    same = [layer for layer in beside if number and (n := _NUMBERED.fullmatch(layer.path)) and n[2] == number[2]]
    return (same[0] if len(same) == 1 else None), False


def _parent(path: str, depth: int) -> str | None:
    """The first `depth` parts of a path that has more."""
    parts = path.split(".")
    return ".".join(parts[:depth]) if len(parts) > depth else None


def order(layers: list[Layer], what: str) -> list[Layer]:
    """The order in which layers run one after the other: the only one that fits their sizes and numbers.

    Raises NotUnderstoodError where there is no such order, or several.
    """
    found: list[list[Layer]] = []
    for steps, chain in enumerate(_chains(layers)):
        if chain is not None:
            found.append(chain)
        if len(found) > 1 or steps > _MAX_STEPS:
            raise NotUnderstoodError(f"the layers of {what} could run in more than one order")
    if not found:
        raise NotUnderstoodError(f"the layers of {what} don't follow each other by their sizes")
    return found[0]


def _chains(layers: list[Layer]) -> Iterator[list[Layer] | None]:
    """Depth first: complete orders, and None for every step on the way."""
    stack: list[list[Layer]] = [[]]
    while stack:
        chain = stack.pop()
        left = [layer for layer in layers if layer not in chain]
        yield chain if not left else None
        last = chain[-1] if chain else None
        for layer in left:
            waits = any(_runs_before(other, layer) for other in left)
            if not waits and (last is None or layer.follows(last.n_out, last.conv) is not None):
                stack.append([*chain, layer])


def _runs_before(one: Layer, other: Layer) -> bool:
    """Whether kind or numbers say so: conv1 before conv2, 0.3 before 1.0, and convolutions before linear layers."""
    if one.conv != other.conv:
        return one.conv
    for a, b in zip(one.path.split("."), other.path.split("."), strict=False):
        if a != b:
            first, second = _NUMBERED.fullmatch(a), _NUMBERED.fullmatch(b)
            return bool(first and second and first[1] == second[1] and int(first[2]) < int(second[2]))
    return False
