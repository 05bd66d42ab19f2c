"""The plain sum of task vectors, in float64 and in any order of the models the same."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import F64, WIDTHS

_CHUNK = 1024
_EXPONENT = np.uint64(0x7FF0000000000000)


@kernel([types.void(rows, base, F64) for rows, base, _ in WIDTHS])
def sum_deltas(rows, base, out):  # type: ignore[no-untyped-def]
    """out = sum of rows[i] - base. Terms are first rounded to a multiple of one number, as in `span.add_rows`."""
    models = rows.shape[0]
    top = np.empty(_CHUNK, np.float64)
    bits = top.view(np.uint64)
    room = 6.0
    while room * 2 < 3.0 * models:
        room *= 2
    for start in range(0, out.size, _CHUNK):
        part, under = out[start : start + _CHUNK], base[start : start + _CHUNK]
        top[:] = 0.0
        for i in range(models):
            row = rows[i, start : start + _CHUNK]
            for j in range(part.size):
                top[j] = max(top[j], abs(np.float64(row[j]) - np.float64(under[j])))
        for j in range(part.size):
            bits[j] &= _EXPONENT
        for j in range(part.size):
            top[j] *= room
            part[j] = 0.0
        for i in range(models):
            row = rows[i, start : start + _CHUNK]
            for j in range(part.size):
                part[j] += ((np.float64(row[j]) - np.float64(under[j])) + top[j]) - top[j]
