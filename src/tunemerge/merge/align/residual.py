"""The residual stream of a transformer: one permutation of the hidden dimensions, through the whole model.

It is a symmetry only if everything that touches the stream is known to treat its dimensions alike. So every tensor
of the model must be understood, and the hidden states must not be what the model gives back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.naming import is_position_table, is_table
from tunemerge.merge.align.config import Positions
from tunemerge.merge.align.groups import Axis, Group
from tunemerge.merge.align.names import Site, Tensors, scope

_HEAD = re.compile(r"For[A-Z]|LMHead|DoubleHeads")
"""Classes whose output is not the hidden states."""
_VECTOR = re.compile(r"norm|(^|[._])ln_?\w*\.|scale|gamma|lambda|class_embedding", re.IGNORECASE)
_SQUARE = re.compile(r"dense|transform|pre_classifier|pooler", re.IGNORECASE)
_ENTRANCE = re.compile(r"embed|project|patch|input", re.IGNORECASE)


def residual_group(
    sites: list[Site], tensors: Tensors, config: Mapping[str, Any], facts: Positions, has_attention: bool
) -> Group | str:
    """The group of the residual stream, or why there is none."""
    width = sites[0].width
    architecture = str((config.get("architectures") or ["unknown"])[0])
    if not _HEAD.search(architecture):
        return f"the hidden states may be the model's output ({architecture})"
    if not has_attention or not facts.known:
        return "nothing tells how the model knows positions"
    sizes = [config.get("vocab_size"), config.get("num_labels"), len(config.get("id2label") or {})]
    if width in sizes:
        return f"the model has {width} hidden dimensions and as many outputs"
    axes = [axis for site in sites for axis in site.residual]
    odd = next((a for a in axes if tensors[a.tensor].shape[a.axis] != width), None)
    if odd is not None:
        return f"{odd.tensor!r} is not {width} wide"
    explained = {name for site in sites for name in site.names}
    for name in sorted(tensors.keys() - explained):
        found = _axes(name, tensors, width, config)
        if isinstance(found, str):
            return f"{name!r} of shape {list(tensors[name].shape)} {found}"
        axes += [Axis(name, axis) for axis in found]
    return Group("residual", width, tuple(axes))


def _axes(name: str, tensors: Tensors, width: int, config: Mapping[str, Any]) -> list[int] | str:
    """The axes of a tensor outside of all blocks that lie on the stream, or what is wrong with it."""
    info = tensors[name]
    shape, places = info.shape, [axis for axis, n in enumerate(info.shape) if n == width]
    if "group" in name or (places and info.dtype not in FLOATS):
        return "is not understood"
    if len(shape) == 1:
        return _vector(name, tensors, width)
    if is_table(name) and shape[-1] == width and name.removesuffix("weight") + "bias" not in tensors:
        return [len(shape) - 1] if len(places) == 1 or is_position_table(name) else "is not understood"
    if len(shape) == 2:
        return _linear(name, shape, width)
    if not places:
        return []
    image = len(shape) in (4, 5) and shape[1] == config.get("num_channels", 3) and _ENTRANCE.search(name)
    return [0] if image and places == [0] else "is not understood"


def _vector(name: str, tensors: Tensors, width: int) -> list[int] | str:
    size = tensors[name].shape[0]
    weight = name.removesuffix("bias") + "weight"
    is_bias = name.endswith("bias") and weight in tensors and len(tensors[weight].shape) > 1
    if size != width:
        return "joins several positions" if _VECTOR.search(name) and size % width == 0 else []
    return [0] if is_bias or _VECTOR.search(name) else "is not understood"


def _linear(name: str, shape: tuple[int, ...], width: int) -> list[int] | str:
    """A layer outside of the blocks, stored as (outputs, inputs)."""
    inner = bool(scope(name.rpartition(".")[0]))
    n_out, n_in = shape
    if n_in != width and n_in % width == 0:
        return "joins several positions"
    if n_out == width and n_in == width:
        return [0, 1] if _SQUARE.search(name) and not inner else "is not understood"
    if n_out == width:
        return [0] if _ENTRANCE.search(name) and not inner else "is not understood"
    return [1] if n_in == width else []
