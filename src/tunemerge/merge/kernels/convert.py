"""Widening, narrowing and looking for NaN and Inf. Everything here is exact or rounds once, to nearest even."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.signatures import F32, READ_F32, READ_F64, READ_U16, U16, VIEW_U32


@njit(types.int64(READ_U16, VIEW_U32), cache=True, nogil=True)
def widen_bf16(raw, bits):  # type: ignore[no-untyped-def]
    """bfloat16 patterns to the bits of the same float32 numbers; returns how many are NaN or Inf."""
    bad = 0
    for j in range(raw.size):
        x = np.uint32(raw[j])
        bits[j] = x << np.uint32(16)
        bad += (x & np.uint32(0x7F80)) == np.uint32(0x7F80)
    return bad


@njit([types.int64(READ_F32), types.int64(READ_F64)], cache=True, nogil=True)
def count_nonfinite(values):  # type: ignore[no-untyped-def]
    """How many are NaN or Inf: the numbers whose difference with themselves is not zero."""
    bad = 0
    for j in range(values.size):
        bad += (values[j] - values[j]) != 0
    return bad


@njit(types.void(READ_F64, F32), cache=True, nogil=True)
def narrow_f32(values, out):  # type: ignore[no-untyped-def]
    """float64 to float32."""
    for j in range(values.size):
        out[j] = np.float32(values[j])


@njit(types.void(READ_F64, F32, VIEW_U32, U16), cache=True, nogil=True)
def narrow_bf16(values, scratch, bits, out):  # type: ignore[no-untyped-def]
    """float64 to bfloat16 patterns; `bits` is the uint32 view of `scratch`.

    Going through float32 rounds twice, unless the first rounding is to odd: the step below turns "nearest"
    into "towards zero, last bit set if anything was lost", after which the second rounding is the only one.
    """
    for j in range(values.size):
        scratch[j] = np.float32(values[j])
    for j in range(values.size):
        wide = np.float64(scratch[j])
        lost = wide != values[j]
        over = abs(wide) > abs(values[j])
        b = (bits[j] - np.uint32(over)) | np.uint32(lost)
        out[j] = np.uint16((b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))
