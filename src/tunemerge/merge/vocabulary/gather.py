"""Reads chosen rows of a tensor: near ones with one read, none twice, never much more than was asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, Array, itemsize, to_float32
from tunemerge.checkpoint.source import Source
from tunemerge.merge.vocabulary.rows import Ints

GAP_BYTES = 32 * 1024
"""Rows nearer than this are read together: copying the bytes between them costs less than another read."""
SPAN_BYTES = 1 << 20
"""The most that one read takes into scratch memory (or one row)."""


def read_rows(source: Source, width: int, rows: Ints, out: Array) -> None:
    """Fill `out` (k, width), C-contiguous and of the source's own format, with its `rows` (k,), in any order."""
    if rows.size == 0 or width == 0:
        return
    if _runs_on(rows):
        source.read_into(out.reshape(-1), int(rows[0]) * width)
        return
    places = np.arange(rows.size) if (np.diff(rows) >= 0).all() else np.argsort(rows, kind="stable")
    ordered = rows[places]
    size = width * itemsize(source.dtype)
    far = (np.diff(ordered) > GAP_BYTES // size + 1) | (np.diff(ordered // max(1, SPAN_BYTES // size)) > 0)
    edges = [0, *(np.flatnonzero(far) + 1), rows.size]
    for begin, end in pairwise(edges):
        first, here = int(ordered[begin]), places[begin:end]
        if _runs_on(ordered[begin:end]) and _runs_on(here):
            source.read_into(out[here[0] : here[-1] + 1].reshape(-1), first * width)
            continue
        scratch = np.empty((int(ordered[end - 1]) - first + 1, width), out.dtype)
        source.read_into(scratch.reshape(-1), first * width)
        out[here] = scratch[ordered[begin:end] - first]


def _runs_on(numbers: Ints) -> bool:
    """Whether each number is the one before plus one."""
    return bool(numbers[-1] - numbers[0] == numbers.size - 1 and (np.diff(numbers) == 1).all())


def widest(dtypes: set[str]) -> str:
    """The narrowest float format that holds all values of all these formats."""
    if len(dtypes) == 1:
        return next(iter(dtypes))
    return "F64" if "F64" in dtypes else "F32"


def convert(values: Array, dtype: str, wanted: str) -> Array:
    """`values` of the float format `dtype` in one that holds them all."""
    if dtype == wanted:
        return values
    return np.asarray(to_float32(values, dtype).astype(NUMPY[wanted]))


def as_float64(values: Array, dtype: str) -> NDArray[Any]:
    """float64 copies of values of any float format."""
    return values.astype(np.float64) if dtype == "F64" else to_float32(values, dtype).astype(np.float64)
