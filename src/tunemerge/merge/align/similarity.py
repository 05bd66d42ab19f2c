"""How alike the units of two models are: inner products of what belongs to each, summed over a group's tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, to_float32
from tunemerge.checkpoint.source import Model
from tunemerge.errors import UsageError
from tunemerge.merge.align.groups import Axis, Group
from tunemerge.merge.align.orders import span

Matrix = NDArray[Any]
_CHUNK = 1 << 22
"""Elements that are read at once where a tensor can be taken in pieces."""


@dataclass(frozen=True)
class Alikeness:
    """Of the units of one group: `units` (n, n), row: the reference's unit, column: the model's, float64.

    `elements` has, for each axis that something inside the units reorders, the matrix of single elements
    (n, block, n, block), float32. Axes that have no say are in neither.
    """

    units: Matrix
    elements: dict[int, Matrix]


def alikeness(reference: Model, model: Model, group: Group, says: Callable[[Axis], bool]) -> Alikeness:
    """Compare every unit of the reference with every unit of the model, over the axes that `says` lets in.

    Memory: 8 n^2 bytes, and twice a tensor in float32 where its first axis is the one compared.
    """
    units = np.zeros((group.units, group.units))
    elements: dict[int, Matrix] = {}
    split = {part.entry for inside in group.inside for part in inside.parts}
    for number, axis in enumerate(group.axes):
        if not says(axis):
            continue
        n, block = group.units, axis.block
        if number in split:
            elements[number] = _products(reference, model, axis, n * block, 1).reshape(n, block, n, block)
        else:
            units += _products(reference, model, axis, n, block)
    return Alikeness(units, elements)


def _products(reference: Model, model: Model, axis: Axis, units: int, block: int) -> Matrix:
    """(units, units) inner products of the parts of one tensor that belong to each unit, float32."""
    out = np.zeros((units, units), np.float32)
    ours, theirs = _pieces(reference, axis), _pieces(model, axis)
    for a, b in zip(ours, theirs, strict=True):
        cut = span(Axis(axis.tensor, axis.axis, axis.start, block), units)
        out += a[cut].reshape(units, -1) @ b[cut].reshape(units, -1).T
    return out


def _pieces(model: Model, axis: Axis) -> Iterator[Matrix]:
    """The tensor in float32 with `axis` first and all others flattened, in pieces along its first axis."""
    shape = model.tensors[axis.tensor].shape
    rows = shape[0] if axis.axis == 0 else max(1, _CHUNK * shape[0] // max(1, model.tensors[axis.tensor].size))
    for low in range(0, shape[0], max(rows, 1)):
        values = read(model, axis.tensor, low, min(rows, shape[0] - low))
        yield np.ascontiguousarray(np.moveaxis(values, axis.axis, 0)).reshape(shape[axis.axis], -1)


def read(model: Model, name: str, row: int, rows: int) -> Matrix:
    """`rows` rows of a tensor, from `row` on, in float32. UsageError where they are not finite."""
    info, source = model.tensors[name], model.source(name)
    width = info.size // max(1, info.shape[0])
    raw = np.empty(rows * width, NUMPY[source.dtype])
    source.read_into(raw, row * width)
    values = to_float32(raw, source.dtype)
    if not np.isfinite(values).all():
        raise UsageError(f"{source.where}: holds NaN or Inf; weights must be finite to be aligned")
    return values.reshape(rows, *info.shape[1:])


def inner_products(reference: Model, model: Model, names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """By tensor: the inner product of both, and each one's own squared norm, in float64."""
    out = {}
    for name in names:
        info = reference.tensors[name]
        rows = max(1, _CHUNK * info.shape[0] // max(1, info.size))
        total = np.zeros(3)
        for low in range(0, info.shape[0], rows):
            a, b = (read(m, name, low, min(rows, info.shape[0] - low)).reshape(-1) for m in (reference, model))
            total += [np.dot(x.astype(np.float64), y) for x, y in ((a, b), (a, a), (b, b))]
        out[name] = (float(total[0]), float(total[1]), float(total[2]))
    return out
