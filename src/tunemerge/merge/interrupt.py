"""Long calls into libraries, during which Ctrl-C is heard all the same."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def interruptible(work: Callable[[], T]) -> T:
    """The result of `work`, done in a thread of its own: of Ctrl-C only the main thread hears, and only between
    instructions, not in the middle of a decomposition. What is interrupted goes on until the process ends, so it must
    not write."""
    pool = ThreadPoolExecutor(1, "merge")
    try:
        return pool.submit(work).result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
