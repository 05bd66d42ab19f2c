"""What a command that only merges does before its imports."""

from __future__ import annotations

import gc
import os
import sys
from types import ModuleType
from typing import cast

_OBJECTS = 100_000
"""Python looks for cyclic garbage after so many new objects; by default 140 times as often, mostly in imports."""


def prepare() -> None:
    """Start quickly: without threads that wait busily for BLAS calls, with little garbage collection, with Numba."""
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    gc.set_threshold(_OBJECTS)
    load_without_scipy()


def load_without_scipy() -> None:
    """Load what every kernel needs, a fifth of a second sooner than on first use.

    Numba looks into scipy.linalg for BLAS, which no kernel here calls, and importing it takes longer than a small
    merge. It is hidden meanwhile; other code in the process could then not use BLAS from within Numba, so this is
    for commands of our own only.
    """
    if "scipy.linalg" in sys.modules:
        return
    sys.modules["scipy.linalg"] = cast(ModuleType, None)
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        del sys.modules["scipy.linalg"]
