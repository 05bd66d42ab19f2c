"""Elementwise steps of a single model: towards it by at most so much, or it alone times a factor."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import STORED


@kernel([types.void(rows, base, types.float64, out) for rows, base, out in STORED])
def step_towards(rows, base, longest, out):  # type: ignore[no-untyped-def]
    """out = base + (rows[0] - base), the difference cut to at most `longest` either way."""
    row = rows[0]
    for j in range(out.size):
        delta = np.float64(number(row[j])) - np.float64(number(base[j]))
        out[j] = np.float64(number(base[j])) + min(max(delta, -longest), longest)


@kernel([types.void(rows, types.float64, out) for rows, _, out in STORED])
def scaled(rows, factor, out):  # type: ignore[no-untyped-def]
    """out = factor * rows[0]; a factor of 1 changes no bit."""
    row = rows[0]
    for j in range(out.size):
        out[j] = factor * np.float64(number(row[j]))
