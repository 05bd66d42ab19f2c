"""The array types of the kernels. Inputs are declared read-only, which accepts writable arrays too.

Signatures are explicit so that a kernel is compiled once, on import, and then comes from the cache.
"""

from __future__ import annotations

from numba import types


def _read(scalar: types.Type, ndim: int = 1) -> types.Array:
    return types.Array(scalar, ndim, "C", readonly=True)


READ_F32, READ_F64 = _read(types.float32), _read(types.float64)
READ_U16, READ_MASK = _read(types.uint16), _read(types.boolean)
READ_ROWS_F32, READ_ROWS_F64 = _read(types.float32, 2), _read(types.float64, 2)
READ_MASKS = _read(types.boolean, 2)
F32, F64, U16 = types.float32[::1], types.float64[::1], types.uint16[::1]
VIEW_U32 = types.uint32[::1]
COUNTS, MASK = types.int64[::1], types.boolean[::1]
