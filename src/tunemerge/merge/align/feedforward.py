"""The hidden units of feed-forward blocks: one or two layers up (gated), one down, and nothing else between."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunemerge.merge.align.groups import Axis, Group
from tunemerge.merge.align.names import Linear, Site, Tensors, below

_HINT = re.compile(
    r"(^|\.)(mlp|ffn?|feed_?forward|(fc|lin|linear|pwconv)_?\d|(shared_)?experts?|(up|down|gate|gate_up)_proj|w[123])(\.|$)",
    re.IGNORECASE,
)
_ATTENTION = re.compile(r"att(entio)?n|query|key|value|qkv|(^|[._])[qkv](_|\.|$)", re.IGNORECASE)
_PAIRS = {
    "intermediate.dense": "output.dense",
    "intermediate_dense": "output_dense",
    "dense_h_to_4h": "dense_4h_to_h",
    "up_proj": "down_proj",
    "fc_in": "fc_out",
    "c_fc": "c_proj",
    "ffn": "ffn_output",
    "wi": "wo",
}
"""The usual names of a layer up and the one down, where no numbers tell which comes first."""
_HALVES = {"gate_up_proj", "Wi", "weights_in"}
"""Layers that hold gate and value one after the other, by their usual names."""


def feedforward_sites(tensors: Tensors, layers: Mapping[str, Linear], attention: list[Site]) -> list[Site]:
    """All feed-forward blocks in numbered layers, not counting tensors that are part of attention."""
    taken = {name for site in attention for name in site.names}
    free = [layer for layer in layers.values() if layer.scope and layer.weight not in taken]
    clusters: dict[str, list[Linear]] = {}
    for layer in free:
        if not _ATTENTION.search(layer.path.removeprefix(layer.scope)):
            clusters.setdefault(_cluster(layer.path), []).append(layer)
    sites = []
    for path, members in sorted(clusters.items()):
        inner = [m.path.removeprefix(m.scope + ".") for m in members]
        alone = len(members) == sum(f.scope == members[0].scope for f in free)
        known = alone or all(_HINT.search(name) for name in inner) or _pair(members) is not None
        site = _site(path, members, tensors, taken) if known else None
        if site:
            sites.append(site)
    return sites


def _cluster(path: str) -> str:
    """Layers that work together share this: `x.mlp` of x.mlp.fc1, `x` of x.intermediate.dense and x.output.dense."""
    parent, _, last = path.rpartition(".")
    return parent.rpartition(".")[0] if last == "dense" else parent


def _pair(members: list[Linear]) -> tuple[Linear, Linear] | None:
    """Two layers in the order in which they run, where their names tell: by numbers or as a usual pair."""
    if len(members) != 2:
        return None
    for up, down in (members, members[::-1]):
        first, second = (re.fullmatch(r"(.*?)(\d+)", x.path) for x in (up, down))
        numbered = first and second and first[1] == second[1] and int(first[2]) < int(second[2])
        usual = any(up.path.endswith("." + a) and down.path.endswith("." + b) for a, b in _PAIRS.items())
        if numbered or usual:
            return up, down
    return None


def _site(path: str, members: list[Linear], tensors: Tensors, taken: set[str]) -> Site | None:
    for down in members:
        hidden, width = down.n_in, down.n_out
        ups = [m for m in members if m is not down and m.n_in == width and m.n_out == hidden]
        halves = [m for m in members if m is not down and m.n_in == width and m.n_out == 2 * hidden]
        halves = [m for m in halves if m.path.rpartition(".")[2] in _HALVES]
        if len(members) != 1 + len(ups) + len(halves):
            continue
        if len(ups) == 1 and not halves and _pair(members) == (ups[0], down):
            outputs = ups[0].outputs()
        elif len(ups) == 2 and not halves and hidden != width:
            outputs = (*ups[0].outputs(), *ups[1].outputs())
        elif len(halves) == 1 and not ups:
            outputs = (*halves[0].outputs(), *halves[0].outputs(start=hidden))
        else:
            continue
        names = set().union(*(m.names for m in members))
        norms = _norms(path, hidden, tensors, names | taken)
        if norms is None or (norms and hidden == width):
            continue
        group = Group(path, hidden, (*outputs, *norms, down.inputs()))
        residual = [up.inputs() for up in [*ups, *halves]] + list(down.outputs())
        return Site(group, tuple(residual), width, frozenset(names | {axis.tensor for axis in norms}))
    return None


def _norms(path: str, hidden: int, tensors: Tensors, known: set[str]) -> list[Axis] | None:
    """Norms over the hidden units; None where something else has as many elements, and so perhaps mixes them."""
    out = []
    for name in sorted(below(path, tensors) - known):
        shape = tensors[name].shape
        if hidden in shape:
            if len(shape) != 1 or not re.search(r"(norm|ln)[^.]*\.(weight|bias)$", name, re.IGNORECASE):
                return None
            out.append(Axis(name, 0))
    return out
