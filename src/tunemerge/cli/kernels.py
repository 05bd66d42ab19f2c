"""What a command that only merges does before its imports."""

from __future__ import annotations

import gc
import os

_OBJECTS = 100_000
"""Python looks for cyclic garbage after so many new objects; by default 140 times as often, mostly in imports."""


def prepare() -> None:
    """Start quickly: without threads that wait busily for BLAS calls, with little garbage collection."""
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    gc.set_threshold(_OBJECTS)
