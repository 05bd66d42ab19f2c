"""Where a model's layers are, read from the names of its tensors. No architecture list.

A stack is what PyTorch's ModuleList leaves in names: one prefix, then consecutive numbers, then the same parts
again and again (`model.layers.0.mlp.up_proj.weight`). Experts within layers, and heads that are a row of plain
layers (`classifier.0.weight`), are no stacks where there are blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tunemerge.checkpoint.naming import numbers


@dataclass(frozen=True)
class Stack:
    """Layers `prefix.0`, `prefix.1`, ...; `numbers` are those that there are, in order."""

    prefix: str
    numbers: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether the numbers run from 0 on without a gap, as slices need."""
        return self.numbers == tuple(range(len(self.numbers)))

    def depth(self, number: int) -> float:
        """0 for the first layer, 1 for the last, and for a layer that is alone."""
        last = len(self.numbers) - 1
        return self.numbers.index(number) / last if last else 1.0

    def name(self, number: int, rest: str) -> str:
        return f"{self.prefix}.{number}.{rest}" if self.prefix else f"{number}.{rest}"


@dataclass(frozen=True)
class Spot:
    """A tensor's layer in a stack, and the rest of its name."""

    stack: Stack
    number: int
    rest: str


@dataclass(frozen=True)
class Layout:
    """The stacks of one model, by prefix, and where every tensor stands (None: outside of all stacks)."""

    stacks: dict[str, Stack]
    places: dict[str, Spot | None]

    @cached_property
    def layers(self) -> dict[str, dict[int, list[str]]]:
        """By the stack's prefix and the layer's number: the rests of the tensors' names, in order."""
        out: dict[str, dict[int, list[str]]] = {prefix: {} for prefix in self.stacks}
        for place in self.places.values():
            if place is not None:
                out[place.stack.prefix].setdefault(place.number, []).append(place.rest)
        return out

    @property
    def outside(self) -> list[str]:
        return [name for name, place in self.places.items() if place is None]


def find_layout(names: Iterable[str]) -> Layout:
    """The layout of a model with these tensors, in the order in which they are given."""
    names = list(names)
    groups: dict[str, dict[int, set[str]]] = {}
    spots = {name: numbers(name) for name in names}
    for found in spots.values():
        for prefix, number, rest in found:
            groups.setdefault(prefix, {}).setdefault(number, set()).add(rest)
    good = {prefix: layers for prefix, layers in groups.items() if _is_stack(layers)}
    chosen: dict[str, tuple[str, int, str]] = {}
    for name, found in spots.items():
        # the outermost of nested stacks: experts are parts of a layer
        spot = next((s for s in found if s[0] in good), None)
        if spot is not None:
            chosen[name] = spot
    stacks = _stacks(chosen.values())
    places = {
        name: Spot(stacks[spot[0]], spot[1], spot[2]) if (spot := chosen.get(name)) and spot[0] in stacks else None
        for name in names
    }
    return Layout(stacks, places)


def _is_stack(layers: dict[int, set[str]]) -> bool:
    """Several layers, each with a part that the layer before has too; or a single one that is a whole block."""
    if len(layers) == 1:
        return _is_block(next(iter(layers.values()))) and 0 in layers
    ordered = [layers[number] for number in sorted(layers)]
    return all(a & b for a, b in pairwise(ordered))


def _is_block(rests: Iterable[str]) -> bool:
    """More than one module: `attention.query.weight` and `mlp.up.weight`, not `weight` and `bias`."""
    return len({rest.rpartition(".")[0] for rest in rests if "." in rest}) > 1


def _stacks(spots: Iterable[tuple[str, int, str]]) -> dict[str, Stack]:
    held: dict[str, set[int]] = {}
    rests: dict[str, set[str]] = {}
    for prefix, number, rest in spots:
        held.setdefault(prefix, set()).add(number)
        rests.setdefault(prefix, set()).add(rest)
    blocks = {prefix for prefix in held if _is_block(rests[prefix])}
    kept = blocks or set(held)
    return {prefix: Stack(prefix, tuple(sorted(held[prefix]))) for prefix in sorted(kept)}
