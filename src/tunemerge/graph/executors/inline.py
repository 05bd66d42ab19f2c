"""The executor that runs each step in this very process, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tunemerge.graph.executors.base import Done, Failed, Progress, Request
from tunemerge.graph.executors.execute import execute


class InlineExecutor:
    """For tests and single commands. The process keeps its own number of threads, so numbers may differ in the
    last bits from those that single-threaded workers make."""

    slots = 1

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()

    def submit(self, request: Request) -> None:
        self._requests.append(request)

    def wait(self, on_progress: Callable[[Progress], None]) -> Done | Failed:
        return execute(self._requests.popleft(), on_progress)

    def kill(self) -> None:
        self._requests.clear()
