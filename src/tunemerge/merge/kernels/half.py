"""float16 to float32 and back by integer arithmetic, which vectorises on every processor (after F. Giesen)."""

from __future__ import annotations

import numpy as np
from numba import types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.signatures import F32, READ_F32, READ_ROWS_U16, READ_U32, ROWS_F32, ROWS_U32, U16

_REBIAS = np.float32(2.0**112)


@kernel(types.int64(READ_ROWS_U16, ROWS_F32, ROWS_U32))
def widen_f16(raw, out, bits):  # type: ignore[no-untyped-def]
    """float16 patterns to float32, subnormals included; `bits` is the uint32 view of `out`.

    Returns how many are NaN or Inf; their values mean nothing.
    """
    bad = 0
    for i in range(raw.shape[0]):
        for j in range(raw.shape[1]):
            x = np.uint32(raw[i, j])
            bits[i, j] = ((x & np.uint32(0x7FFF)) << np.uint32(13)) | ((x & np.uint32(0x8000)) << np.uint32(16))
            bad += (x & np.uint32(0x7C00)) == np.uint32(0x7C00)
        for j in range(raw.shape[1]):
            out[i, j] *= _REBIAS
    return bad


@kernel(types.int64(READ_F32, READ_U32, F32, types.uint32[::1], U16))
def narrow_f16(values, value_bits, scratch, scratch_bits, out):  # type: ignore[no-untyped-def]
    """float32 to float16 patterns; the two `bits` are uint32 views. Returns how many came out as NaN or Inf.

    Below 2**-14, adding 0.5 makes the processor round to the spacing of float16's subnormals.
    """
    for j in range(values.size):
        scratch[j] = abs(values[j]) + np.float32(0.5)
    bad = 0
    for j in range(values.size):
        b = value_bits[j] & np.uint32(0x7FFFFFFF)
        sign = (value_bits[j] >> np.uint32(16)) & np.uint32(0x8000)
        normal = (b - np.uint32(0x38000000) + np.uint32(0xFFF) + ((b >> np.uint32(13)) & np.uint32(1))) >> np.uint32(13)
        tiny = scratch_bits[j] - np.uint32(0x3F000000)
        short = tiny if b < np.uint32(0x38800000) else normal
        over = b >= np.uint32(0x477FF000)
        out[j] = np.uint16((np.uint32(0x7C00) if over else short) | sign)
        bad += over
    return bad
