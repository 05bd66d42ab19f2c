"""The state of an alignment: for every axis that some group reorders, which element comes where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.merge.align.groups import Axis, Group

Index = NDArray[np.int64]
Orders = dict[tuple[str, int], Index]
"""By (tensor, axis): element i of the aligned axis is element order[i] of the model's own."""


def identity(groups: Iterable[Group], tensors: Mapping[str, TensorInfo]) -> Orders:
    """Every axis of the groups as it is."""
    return {
        (a.tensor, a.axis): np.arange(tensors[a.tensor].shape[a.axis], dtype=np.int64)
        for group in groups
        for a in group.axes
    }


def rearranged(orders: Orders, group: Group, units: Index, inside: Sequence[Index]) -> Orders:
    """The orders after one more permutation of a group.

    `units` (units,): unit u becomes what is unit units[u] now. `inside[e]` (units, block of axis e): element b of the
    new unit u is element inside[e][u, b] of that unit.
    """
    out = dict(orders)
    for axis, within in zip(group.axes, inside, strict=True):
        key = (axis.tensor, axis.axis)
        before = out[key]
        after = before.copy()
        after[span(axis, group.units)] = before[(axis.start + units[:, None] * axis.block + within).reshape(-1)]
        out[key] = after
    return out


def unmoved(group: Group) -> list[Index]:
    """`inside` of a permutation that keeps the order within units."""
    return [np.tile(np.arange(axis.block, dtype=np.int64), (group.units, 1)) for axis in group.axes]


def moved(orders: Orders, group: Group) -> float:
    """The share of units that come from another place, or, where units can't move, whose elements do."""
    changed = np.zeros(group.units, bool)
    for axis in group.axes:
        order = orders[axis.tensor, axis.axis][span(axis, group.units)].reshape(group.units, axis.block)
        expected = axis.start + np.arange(group.units * axis.block).reshape(group.units, axis.block)
        if group.movable:
            changed |= (order[:, 0] - axis.start) // axis.block != np.arange(group.units)
        else:
            changed |= (order != expected).any(axis=1)
    return float(changed.mean()) if group.units else 0.0


def span(axis: Axis, units: int) -> slice:
    """The elements of the axis that belong to the group."""
    return slice(axis.start, axis.start + units * axis.block)
