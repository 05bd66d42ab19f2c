"""Kernels: functions that Numba compiles once, ahead of their first use, and takes from its cache from then on.

What a kernel has for arrays that a merge doesn't have is never loaded, and nothing of Numba that only a compilation
needs: that is half of what a small merge would take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from threading import Lock
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.core.typing.templates import Signature

_loading = Lock()


class _Cache(FunctionCache):
    """Numba's own, which would first load all that a compilation may need: a tenth of a second and more."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # what compiled code itself needs: memory for its arrays
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


class Kernel:
    """A function with explicit signatures, those for one dtype of the first argument loaded when it first comes.

    There is no other way to compile it: arguments that no signature has are a TypeError.
    """

    def __init__(self, function: Callable[..., Any], signatures: Sequence[Signature], options: dict[str, Any]) -> None:
        self._function, self._signatures, self._options = function, signatures, options
        self._ready: dict[np.dtype[Any], Any] = {}
        update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        call = self._ready.get(args[0].dtype) or self._load(args[0].dtype)
        return call(*args)

    def _load(self, dtype: np.dtype[Any]) -> Any:
        wanted = [signature for signature in self._signatures if str(signature.args[0].dtype) == str(dtype)]
        if not wanted:
            raise TypeError(f"{self._function.__name__}: no signature begins with an array of {dtype}")
        with _loading:
            if dtype not in self._ready:
                compiled = njit(nogil=True, **self._options)(self._function)
                compiled._cache = _Cache(self._function)  # type: ignore[no-untyped-call]
                for signature in wanted:
                    compiled.compile(signature)
                compiled.disable_compile()
                self._ready[dtype] = compiled
        return self._ready[dtype]


def kernel(signatures: Signature | Sequence[Signature], **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a function a kernel, which releases Python's lock. `options` are those of numba.njit."""
    every = [signatures] if isinstance(signatures, Signature) else list(signatures)
    return lambda function: Kernel(function, every, options)
