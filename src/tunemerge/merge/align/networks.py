"""Groups of networks without attention: plain chains of layers, and residual blocks of convolutions."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, pairwise

from tunemerge.merge.align.groups import Axis, Group
from tunemerge.merge.align.layers import Layer, NotUnderstoodError, order, read_layers
from tunemerge.merge.align.names import Tensors, natural, without_numbers


@dataclass
class _Space:
    """Units that must be permuted together: written by some layers, read by others."""

    name: str
    units: int
    axes: list[Axis] = field(default_factory=list)

    def group(self) -> Group:
        return Group(self.name, self.units, tuple(self.axes))


@dataclass(frozen=True)
class Network:
    """The groups of a network; `notes` say what was left out or taken for granted."""

    groups: list[Group]
    notes: list[str]


def network_groups(tensors: Tensors) -> Network:
    """Groups of a plain network or one of residual blocks. NotUnderstoodError where there is no telling."""
    layers = read_layers(tensors)
    blocks: dict[str, list[Layer]] = {}
    for layer in layers:
        blocks.setdefault(layer.block, []).append(layer)
    root = blocks.pop("", [])
    if not blocks:
        chain = order(root, "the network")
        return Network([s.group() for s in _chain(chain)], _taken_for_granted(chain))
    notes = []
    mains = {}
    for name, members in blocks.items():
        try:
            mains[name] = order([m for m in members if not m.shortcut], name)
        except NotUnderstoodError as problem:
            notes.append(str(problem))
    try:
        _refuse_grouped(root, blocks, mains)
    except NotUnderstoodError as problem:
        linear = {name: main for name, main in mains.items() if not main[0].conv}
        return Network([s.group() for main in linear.values() for s in _chain(main)], [*notes, str(problem)])
    spaces = [space for main in mains.values() for space in _chain(main)]
    try:
        spaces += _between(root, blocks, mains)
    except NotUnderstoodError as problem:
        notes.append(f"only units within blocks are permuted: {problem}")
    return Network([s.group() for s in spaces], notes)


def _refuse_grouped(root: list[Layer], blocks: dict[str, list[Layer]], mains: dict[str, list[Layer]]) -> None:
    """The weights of a convolution in groups look like those of one with fewer inputs: what reaches it must tell."""
    if len(mains) < len(blocks) or len({without_numbers(name) for name in blocks}) > 1:
        raise NotUnderstoodError("the order of the blocks is not known")
    width = None
    for layer in order([x for x in root if x.conv], "the stem"):
        width = layer.n_out
    for name in sorted(mains, key=natural):
        first = mains[name][0]
        if first.conv and first.n_in != width:
            raise NotUnderstoodError(f"{width} channels reach {first.path!r}, which reads {first.n_in}")
        width = mains[name][-1].n_out


def _chain(chain: list[Layer]) -> list[_Space]:
    """One space between every two layers; a depthwise convolution hands its inputs' space on."""
    spaces: list[_Space] = []
    for before, layer in pairwise(chain):
        if not spaces or not _depthwise(before, chain):
            spaces.append(_Space(before.path, before.n_out, list(before.outputs)))
        _read(spaces[-1], layer, before.conv)
    return spaces


def _depthwise(layer: Layer, chain: list[Layer]) -> bool:
    place = chain.index(layer)
    return place > 0 and layer.follows(chain[place - 1].n_out, chain[place - 1].conv) == 0


def _read(space: _Space, layer: Layer, after_conv: bool) -> None:
    """Let a layer read the space."""
    block = layer.follows(space.units, after_conv)
    if block is None:
        raise NotUnderstoodError(f"{layer.path!r} does not fit the {space.units} units of {space.name!r}")
    space.axes += layer.outputs if block == 0 else [Axis(layer.weight, 1, 0, block)]


def _between(root: list[Layer], blocks: dict[str, list[Layer]], mains: dict[str, list[Layer]]) -> list[_Space]:
    """The spaces between blocks, where skip connections add what a block reads to what it writes.

    The same permutation before and after a block without a shortcut layer is right whether or not it has a skip.
    """
    stem, head = [x for x in root if x.conv], [x for x in root if not x.conv]
    if not stem or not head:
        raise NotUnderstoodError("it has no first convolution or no last linear layer outside of the blocks")
    start, end = order(stem, "the stem"), order(head, "the head")
    spaces = _chain(start)
    space = _Space(f"from {start[-1].path}", start[-1].n_out, list(start[-1].outputs))
    for name in sorted(blocks, key=natural):
        main, shortcuts = mains[name], [m for m in blocks[name] if m.shortcut]
        if len(shortcuts) > 1:
            raise NotUnderstoodError(f"the way past block {name!r} is not understood")
        _read(space, main[0], after_conv=True)
        for shortcut in shortcuts:
            _read(space, shortcut, after_conv=True)
            if shortcut.n_out != main[-1].n_out:
                raise NotUnderstoodError(f"the way past block {name!r} is not understood")
            spaces.append(space)
            space = _Space(f"from {name}", main[-1].n_out, [*main[-1].outputs, *shortcut.outputs])
        if not shortcuts:
            if main[-1].n_out != space.units:
                raise NotUnderstoodError(f"block {name!r} changes the number of channels without a layer beside it")
            space.axes += main[-1].outputs
    _read(space, end[0], after_conv=True)
    return [*spaces, space, *_chain(end)]


def _taken_for_granted(chain: list[Layer]) -> list[str]:
    """What the file can't show: a skip connection between two places of the same width."""
    widths = [chain[0].n_in, *(layer.n_out for layer in chain)]
    last = len(widths) - 1
    for start, end in combinations(range(len(widths)), 2):
        if widths[start] == widths[end] and (start, end) != (0, last):
            names = " -> ".join(layer.path for layer in chain)
            skipped = " and ".join(repr(layer.path) for layer in chain[start:end])
            return [f"read as a plain chain, {names}; if a skip connection leads past {skipped}, give the groups"]
    return []
