"""Weight matching (Ainsworth et al., 2209.04836): permute a model's units to lie as near the reference as they can.

The inner product of both models' weights is maximised by coordinate descent: with all other groups held, the best
permutation of one group is a linear assignment. Where units have symmetries of their own (the dimensions within a
head), a pair of units counts with its best arrangement, so both levels are solved together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tunemerge.checkpoint.source import Model
from tunemerge.merge.align.assign import assign
from tunemerge.merge.align.groups import Axis, Group
from tunemerge.merge.align.orders import Orders, identity, rearranged
from tunemerge.merge.align.permuted import PermutedModel
from tunemerge.merge.align.similarity import alikeness, inner_products

MAX_SWEEPS = 100
_PROGRESS = 1e-6
"""A step must gain this share of the group's similarity: below lies the rounding of float32 sums."""


@dataclass(frozen=True)
class Match:
    """Where a matching ended. `sweeps`: rounds over all groups, the last of which changed nothing."""

    orders: Orders
    sweeps: int


def voters(groups: Sequence[Group]) -> frozenset[str]:
    """The tensors whose similarity counts.

    Not running statistics, whose scale has nothing to do with weights, and not tensors with two axes in one group,
    for which the best permutation is no linear assignment.
    """
    out, twice = set(), set()
    for group in groups:
        axes = {(a.tensor, a.axis) for a in group.axes}
        names = [tensor for tensor, _ in axes]
        out |= {n for n in names if not n.endswith(("running_mean", "running_var"))}
        twice |= {n for n in names if names.count(n) > 1}
    return frozenset(out - twice)


def match(reference: Model, model: Model, groups: Sequence[Group], seed: int = 0) -> Match:
    """The orders that bring `model` nearest `reference`; both must have the groups' tensors, in the same shapes.

    `seed` decides the order in which groups are visited, nothing else is random. The result is never less similar
    to the reference than the model as it is. Raises UsageError where weights are not finite.
    """
    heard = voters(groups)
    orders = identity(groups, reference.tensors)
    spread = _spread(reference, model, groups, heard, orders, seed)
    if _total(reference, model, heard, spread) > _total(reference, model, heard, orders):
        orders = spread
    generator = np.random.default_rng(seed)
    sweeps, progress = 0, True
    while progress and sweeps < MAX_SWEEPS:
        sweeps, progress = sweeps + 1, False
        for number in generator.permutation(len(groups)):
            group = groups[number]
            alike = alikeness(reference, PermutedModel(model, orders), group, lambda axis: axis.tensor in heard)
            best = assign(group, alike)
            if best.after - best.before > _PROGRESS * max(abs(best.before), abs(best.after)):
                orders, progress = rearranged(orders, group, best.units, best.inside), True
    return Match(orders, sweeps)


def _spread(
    reference: Model, model: Model, groups: Sequence[Group], heard: frozenset[str], orders: Orders, seed: int
) -> Orders:
    """A start: groups in the order in which they can be told, each compared only where nothing is open any more.

    The inputs and outputs of a network have a fixed order; what touches them can be matched first, then what touches
    that. From there coordinate descent takes fewer sweeps than from the model as it is and, in deep networks, ends
    higher: averages of two networks with four hidden layers on digits were right in 93.3% against 90.1%.
    """
    left = {int(i): groups[int(i)] for i in np.random.default_rng(seed).permutation(len(groups))}
    open_axes = {(a.tensor, a.axis) for group in groups for a in group.axes}

    def closed(axis: Axis) -> bool:
        others = range(len(reference.tensors[axis.tensor].shape))
        return axis.tensor in heard and not any(a != axis.axis and (axis.tensor, a) in open_axes for a in others)

    while left:
        told = {i: _share(group, reference, heard, closed) for i, group in left.items()}
        number = max(told, key=told.__getitem__)
        group = left.pop(number)
        says = closed if told[number] else lambda axis: axis.tensor in heard
        alike = alikeness(reference, PermutedModel(model, orders), group, says)
        best = assign(group, alike)
        orders = rearranged(orders, group, best.units, best.inside)
        open_axes -= {(a.tensor, a.axis) for a in group.axes}
        open_axes |= {(a.tensor, a.axis) for other in left.values() for a in other.axes}
    return orders


def _share(group: Group, reference: Model, heard: frozenset[str], closed: Callable[[Axis], bool]) -> float:
    """The share of a group's elements that can be compared already."""
    sizes = [(reference.tensors[a.tensor].size, closed(a)) for a in group.axes if a.tensor in heard]
    total = sum(size for size, _ in sizes)
    return sum(size for size, yes in sizes if yes) / total if total else 0.0


def _total(reference: Model, model: Model, heard: frozenset[str], orders: Orders) -> float:
    products = inner_products(reference, PermutedModel(model, orders), sorted(heard))
    return sum(product for product, _, _ in products.values())
