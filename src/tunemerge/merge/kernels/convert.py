"""Widening, narrowing and looking for NaN and Inf. Everything here is exact or rounds once, to nearest even."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import (
    F32,
    READ_F64,
    READ_ROWS_F32,
    READ_ROWS_F64,
    READ_ROWS_U16,
    READ_U32,
    ROWS_U32,
    U16,
)

_VIEW_U32 = types.uint32[::1]
_STRETCH = 1 << 14


@kernel(types.int64(READ_ROWS_U16, ROWS_U32))
def widen_bf16(raw, bits):  # type: ignore[no-untyped-def]
    """bfloat16 patterns to the bits of the same float32 numbers; returns how many are NaN or Inf."""
    bad = 0
    for i in range(raw.shape[0]):
        for j in range(raw.shape[1]):
            x = np.uint32(raw[i, j])
            bits[i, j] = x << np.uint32(16)
            bad += (x & np.uint32(0x7F80)) == np.uint32(0x7F80)
    return bad


@kernel(types.int64(READ_ROWS_U16))
def count_nonfinite_bf16(raw):  # type: ignore[no-untyped-def]
    """How many bfloat16 patterns are NaN or Inf."""
    bad = 0
    for i in range(raw.shape[0]):
        for start in range(0, raw.shape[1], _STRETCH):
            part, some = raw[i, start : start + _STRETCH], np.uint16(0)  # a vector holds more small numbers
            for j in range(part.size):
                some = np.uint16(some + np.uint16((part[j] & np.uint16(0x7F80)) == np.uint16(0x7F80)))
            bad += int(some)
    return bad


@kernel([types.int64(READ_ROWS_F32), types.int64(READ_ROWS_F64)])
def count_nonfinite(rows):  # type: ignore[no-untyped-def]
    """How many are NaN or Inf: the numbers whose difference with themselves is not zero."""
    bad = 0
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            bad += (rows[i, j] - rows[i, j]) != 0
    return bad


@kernel(types.int64(READ_U32, U16))
def narrow_bf16(bits, out):  # type: ignore[no-untyped-def]
    """The bits of float32 numbers to bfloat16 patterns; returns how many came out as NaN or Inf."""
    bad = 0
    for j in range(bits.size):
        b = bits[j]
        short = (b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        out[j] = np.uint16(short)
        bad += (short & np.uint32(0x7F80)) == np.uint32(0x7F80)
    return bad


@kernel(types.void(READ_F64, F32, _VIEW_U32))
def narrow_to_odd(values, out, bits):  # type: ignore[no-untyped-def]
    """float64 to float32, inexact ones to the neighbour whose last bit is set; `bits` is the uint32 view of `out`.

    Rounding to odd first makes a second, narrower rounding the only one that counts.
    """
    for j in range(values.size):
        out[j] = np.float32(values[j])
    for j in range(values.size):
        wide = np.float64(out[j])
        over = abs(wide) > abs(values[j])
        bits[j] = (bits[j] - np.uint32(over)) | np.uint32(wide != values[j])
