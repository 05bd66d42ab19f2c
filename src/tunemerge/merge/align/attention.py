"""Attention heads: permuted as a whole, and within a head where that changes nothing.

The value dimensions of a head, with the columns of the output layer that read them, may always be reordered; the
query and key dimensions together, where no rotary embedding tells them apart. Query heads that share a key and value
head (grouped queries) may be reordered among themselves, and move together with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunemerge.checkpoint.naming import is_relative_bias
from tunemerge.merge.align.config import Positions, heads, positions
from tunemerge.merge.align.groups import Axis, Group, Inside, Part
from tunemerge.merge.align.names import Linear, Site, Tensors, below, without_numbers

_SEPARATE = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("query_proj", "key_proj", "value_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("wq", "wk", "wv"),
    ("to_q", "to_k", "to_v"),
)
_ONE_AFTER_THE_OTHER = {"gpt2": "c_attn", "phi3": "qkv_proj", "modernbert": "Wqkv"}
_HEAD_BY_HEAD = {"gpt_neox": "query_key_value", "bloom": "query_key_value"}
"""How query, key and value lie in one fused layer is nowhere in the file: known by model_type (and for torch's
own `in_proj`, which has them one after the other)."""
_SILENT = re.compile(r"(bias|masked_bias|relative_position_index|(\w+\.)?inv_freq)$")
"""Causal masks, index tables and rotary frequencies: buffers that know no heads."""


@dataclass(frozen=True)
class _Entry:
    """Where queries ("q"), keys or values lie: the axes' start and block; `offset`: their start within a unit."""

    axis: Axis
    offsets: dict[str, int]


@dataclass(frozen=True)
class _Attention:
    """One attention block. `ratio` query heads share one of `units` key and value heads of `size` dimensions."""

    path: str
    units: int
    ratio: int
    size: int
    entries: tuple[_Entry, ...]
    layers: tuple[Linear, ...]
    out: Linear


def attention_sites(tensors: Tensors, layers: Mapping[str, Linear], config: Mapping[str, Any]) -> list[Site]:
    """The attention blocks whose every tensor is understood and whose number of heads is known."""
    facts = positions(config, list(tensors))
    if facts.unsafe:
        return []
    found = [a for a in _find(layers, config) if a is not None]
    shared = _shared_biases(found, tensors)
    sites = [_site(attention, tensors, facts, shared) for attention in found]
    return [site for site in sites if site is not None]


def _find(layers: Mapping[str, Linear], config: Mapping[str, Any]) -> Iterator[_Attention | None]:
    for path, layer in layers.items():
        parent, _, leaf = path.rpartition(".")
        for q, k, v in _SEPARATE:
            if leaf == q and f"{parent}.{k}" in layers and f"{parent}.{v}" in layers:
                yield _separate(parent, layer, layers[f"{parent}.{k}"], layers[f"{parent}.{v}"], layers, config)
        kind = config.get("model_type")
        if leaf == "in_proj" or leaf == _ONE_AFTER_THE_OTHER.get(str(kind)):
            yield _fused(parent, layer, layers, config, by_head=False)
        elif leaf == _HEAD_BY_HEAD.get(str(kind)):
            yield _fused(parent, layer, layers, config, by_head=True)


def _out(parent: str, own: tuple[Linear, ...], layers: Mapping[str, Linear]) -> Linear | None:
    """The output layer: the only other one in the attention module, or in the one around it."""
    around = [parent, parent.rpartition(".")[0]]
    for root in around[: 2 if around[1].rpartition(".")[2].lower().startswith("att") else 1]:
        others = [x for p, x in layers.items() if p.startswith(root + ".") and x not in own]
        if others:
            return others[0] if len(others) == 1 and others[0].n_out == own[0].n_in else None
    return None


def _separate(
    parent: str, q: Linear, k: Linear, v: Linear, layers: Mapping[str, Linear], config: Mapping[str, Any]
) -> _Attention | None:
    count, size = heads(config, parent)
    out = _out(parent, (q, k, v), layers)
    if count is None or out is None or out.n_in != q.n_out or q.n_out != count * (size or q.n_out // count):
        return None
    size = q.n_out // count
    units = k.n_out // size
    if k.n_out != v.n_out or k.n_out != units * size or not units or count % units:
        return None
    wide = count // units * size
    entries = [
        *(_Entry(axis, {"q": 0}) for axis in q.outputs(block=wide)),
        *(_Entry(axis, {"k": 0}) for axis in k.outputs(block=size)),
        *(_Entry(axis, {"v": 0}) for axis in v.outputs(block=size)),
        _Entry(out.inputs(wide), {"o": 0}),
    ]
    return _Attention(parent, units, count // units, size, tuple(entries), (q, k, v), out)


def _fused(
    parent: str, layer: Linear, layers: Mapping[str, Linear], config: Mapping[str, Any], *, by_head: bool
) -> _Attention | None:
    count, size = heads(config, parent)
    out = _out(parent, (layer,), layers)
    if count is None or out is None or out.n_in != count * (size or out.n_in // count):
        return None
    size = out.n_in // count
    units = (layer.n_out - out.n_in) // (2 * size)
    if units < 1 or layer.n_out != out.n_in + 2 * units * size or count % units or (by_head and units != count):
        return None
    ratio = count // units
    if by_head:
        offsets = {"q": 0, "k": size, "v": 2 * size}
        entries = [_Entry(axis, offsets) for axis in layer.outputs(block=3 * size)]
    else:
        starts = {"q": (0, ratio), "k": (out.n_in, 1), "v": (out.n_in + units * size, 1)}
        entries = [_Entry(axis, {role: 0}) for role, (at, n) in starts.items() for axis in layer.outputs(at, n * size)]
    entries.append(_Entry(out.inputs(ratio * size), {"o": 0}))
    return _Attention(parent, units, ratio, size, tuple(entries), (layer,), out)


def _shared_biases(found: list[_Attention], tensors: Tensors) -> set[str]:
    """Kinds of attention (paths without numbers) whose position biases are used by more than the block they are in."""
    kinds: dict[str, list[_Attention]] = {}
    for attention in found:
        kinds.setdefault(without_numbers(attention.path), []).append(attention)
    out = set()
    for name in filter(is_relative_bias, tensors):
        owner = next((kind for kind in kinds if without_numbers(name).startswith(kind + ".")), None)
        if owner is None:
            return set(kinds)
        if not all(any(is_relative_bias(n) for n in below(a.path, tensors)) for a in kinds[owner]):
            out.add(owner)
    return out


def _site(attention: _Attention, tensors: Tensors, facts: Positions, shared: set[str]) -> Site | None:
    entries = list(attention.entries)
    names = set().union(*(layer.names for layer in (*attention.layers, attention.out)))
    movable = facts.known and not facts.slopes and without_numbers(attention.path) not in shared
    plain_keys = facts.known and not facts.rotary
    for name in sorted(below(attention.path, tensors) - names):
        shape, inside = tensors[name].shape, name.removeprefix(attention.path + ".")
        if is_relative_bias(inside) and attention.units in shape and attention.ratio == 1:
            if movable:
                entries.append(_Entry(Axis(name, shape.index(attention.units)), {}))
        elif re.match(r"[qk]_?(layer)?_?norm\w*\.(weight|bias)$", inside) and len(shape) == 1:
            plain_keys = False
            whole = attention.size * attention.units * (attention.ratio if inside[0] == "q" else 1)
            if shape[0] == whole:
                entries.append(_Entry(Axis(name, 0, 0, whole // attention.units), {inside[0]: 0}))
            elif shape[0] != attention.size:
                return None
        elif not _SILENT.match(inside) or (inside == "bias" and len(shape) == 1):
            return None
        names.add(name)
    inside_units = _inside(attention, entries, plain_keys)
    group = Group(attention.path, attention.units, tuple(e.axis for e in entries), inside_units, movable)
    residual = (*(layer.inputs() for layer in attention.layers), *attention.out.outputs())
    return Site(group, residual, attention.out.n_out, frozenset(names))


def _inside(attention: _Attention, entries: list[_Entry], plain_keys: bool) -> tuple[Inside, ...]:
    size, ratio = attention.size, attention.ratio

    def parts(role: str, copies: int) -> list[Part]:
        found = [(number, e.offsets[role]) for number, e in enumerate(entries) if role in e.offsets]
        return [Part(number, at + copy * size) for number, at in found for copy in range(copies)]

    out = [Inside("values", size, (*parts("v", 1), *parts("o", ratio)))]
    if plain_keys:
        out.append(Inside("keys", size, (*parts("q", ratio), *parts("k", 1))))
    if ratio > 1:
        whole = [replace(part, block=size) for role in "qo" for part in parts(role, 1)]
        out.append(Inside("queries", ratio, tuple(whole)))
    return tuple(out)
