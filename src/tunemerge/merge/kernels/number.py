"""Elements of a block as numbers, whether it holds numbers or bfloat16 as it is stored, in 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload


def number(x: Any) -> Any:
    """For kernels only: the number that an element of a block is."""
    raise NotImplementedError


@overload(number, inline="always")
def _number(x):  # type: ignore[no-untyped-def]
    if x == types.uint16:
        return lambda x: _float32_of(np.uint32(np.uint32(x) << np.uint32(16)))  # type: ignore[call-arg]
    return lambda x: x


@intrinsic
def _float32_of(typing_context, bits):  # type: ignore[no-untyped-def]
    """The float32 number with that pattern."""

    def same_bits(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), same_bits
