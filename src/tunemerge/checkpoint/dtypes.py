"""The number formats of safetensors, and exact conversion between them and float32.

NumPy has no bfloat16: such tensors are kept as uint16 bit patterns, and the dtype string tells them apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NUMPY: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "F8_E8M0": np.dtype("u1"),
    "F8_E4M3FNUZ": np.dtype("u1"),
    "F8_E5M2FNUZ": np.dtype("u1"),
    "C64": np.dtype("<c8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""What can be merged. Integers and booleans (position ids, masks) can only be equal, and are copied."""

INTEGERS = frozenset({"I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"})

TORCH_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The names that recipes and config.json use."""


def itemsize(dtype: str) -> int:
    """Bytes an element."""
    return NUMPY[dtype].itemsize


def to_float32(raw: Array, dtype: str) -> NDArray[np.float32]:
    """`raw` as float32, the same shape. Exact for F32, F16 and BF16; F64 is rounded to nearest even."""
    if dtype == "BF16":
        return np.asarray(raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            return raw.astype(np.float32)
    raise ValueError(f"{dtype} is not a floating-point format that can be widened")


def from_float32(values: Array, dtype: str) -> Array:
    """float32 `values` in `dtype`, rounded to nearest even; what is too large becomes Inf, NaN stays NaN."""
    values = np.array(values, dtype=np.float32, order="C")
    if dtype == "BF16":
        bits = values.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        return np.asarray(np.where(np.isnan(values), np.uint16(0x7FC0), rounded.astype(np.uint16)))
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            return values.astype(NUMPY[dtype])
    raise ValueError(f"{dtype} is not a floating-point format that can be written")
