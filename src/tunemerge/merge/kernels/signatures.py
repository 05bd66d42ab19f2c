"""The array types of the kernels. Inputs are declared read-only, which accepts writable arrays too.

Signatures are explicit so that a kernel is compiled once, on import, and then comes from the cache.
"""

from __future__ import annotations

from numba import types


def _read(scalar: types.Type, ndim: int = 1) -> types.Array:
    return types.Array(scalar, ndim, "C", readonly=True)


READ_F32, READ_F64 = _read(types.float32), _read(types.float64)
READ_U32, READ_U64 = _read(types.uint32), _read(types.uint64)
READ_U16, READ_ROWS_U16, READ_ROWS_U32 = _read(types.uint16), _read(types.uint16, 2), _read(types.uint32, 2)
READ_ROWS_F32, READ_ROWS_F64 = _read(types.float32, 2), _read(types.float64, 2)
READ_MASKS = _read(types.boolean, 2)
F32, F64, U16, I64 = types.float32[::1], types.float64[::1], types.uint16[::1], types.int64[::1]
ROWS_F32, ROWS_U32, COUNTS, MASKS = (
    types.float32[:, ::1],
    types.uint32[:, ::1],
    types.int64[:, ::1],
    types.boolean[:, ::1],
)
LANE_SUMS = types.float64[:, ::1]

WIDTHS = ((READ_ROWS_F32, READ_F32, F32), (READ_ROWS_F64, READ_F64, F64))
"""(rows, base, out) of a block: float32, or float64 where a source is."""

STORED = (*WIDTHS, (READ_ROWS_U16, READ_U16, F32))
"""The same, and bfloat16 as it is stored, for kernels that see elements through `number`."""

LANES = 64
"""Sums over a tensor are kept in this many lanes, by position modulo LANES, so they don't depend on block borders."""

CHUNK = 2048
"""Elements that a kernel takes through all its loops before it goes on: they stay in the nearest cache."""
