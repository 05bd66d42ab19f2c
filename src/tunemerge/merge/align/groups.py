"""Permutation groups: which axes of which tensors must be reordered together so that a network computes the same.

A group has units (hidden neurons, channels, attention heads). A unit is `block` consecutive elements of each of the
group's axes. Inside a unit there may be further symmetries (the value dimensions of one head), which hold for every
unit of the group in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.findings import Finding, error
from tunemerge.registry import nearest


@dataclass(frozen=True)
class Axis:
    """Elements [start, start + units * block) of one axis of a tensor: unit u is the u-th run of `block` of them."""

    tensor: str
    axis: int
    start: int = 0
    block: int = 1


@dataclass(frozen=True)
class Part:
    """A stretch within every unit of the group's axis number `entry`, cut in runs of `block`, from `start` on."""

    entry: int
    start: int = 0
    block: int = 1


@dataclass(frozen=True)
class Inside:
    """A symmetry within one unit: `units` runs of every part are reordered together, in each unit on its own."""

    name: str
    units: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Group:
    """One permutation of `units` units of all `axes`. `movable` False: units stay, only what is inside them moves."""

    name: str
    units: int
    axes: tuple[Axis, ...]
    inside: tuple[Inside, ...] = ()
    movable: bool = True


def check_groups(
    groups: Iterable[Group], tensors: Mapping[str, TensorInfo], places: Mapping[tuple[str, int], str]
) -> list[Finding]:
    """Everything that keeps groups from fitting these tensors. `places` says where (group, number of axis) stands."""
    findings = []
    for group in groups:
        taken: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for number, axis in enumerate(group.axes):
            where = places.get((group.name, number), f"group {group.name}")
            problem = _problem(group, axis, tensors)
            if problem:
                findings.append(error("align-axis", problem, where))
                continue
            ranges = taken.setdefault((axis.tensor, axis.axis), [])
            begin, end = axis.start, axis.start + group.units * axis.block
            if any(begin < other_end and other < end for other, other_end in ranges):
                text = f"group {group.name!r} lists elements of axis {axis.axis} of {axis.tensor!r} twice"
                findings.append(error("align-axis", text, where, "keep one of them"))
            ranges.append((begin, end))
    return findings


def _problem(group: Group, axis: Axis, tensors: Mapping[str, TensorInfo]) -> str | None:
    info = tensors.get(axis.tensor)
    if info is None:
        return f"there is no tensor {axis.tensor!r}{nearest(axis.tensor, sorted(tensors))}"
    if info.dtype not in FLOATS:
        return f"{axis.tensor!r} is stored as {info.dtype}; only {', '.join(sorted(FLOATS))} can be aligned"
    if not 0 <= axis.axis < len(info.shape):
        return f"{axis.tensor!r} of shape {list(info.shape)} has no axis {axis.axis}"
    needed, size = axis.start + group.units * axis.block, info.shape[axis.axis]
    if needed > size:
        return (
            f"axis {axis.axis} of {axis.tensor!r} has {size} elements; "
            f"{group.units} units of {axis.block} from element {axis.start} on need {needed}"
        )
    return None
