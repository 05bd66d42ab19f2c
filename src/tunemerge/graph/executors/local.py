"""The executor of one machine: warm worker processes, one thread each, as many as there are cores."""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable
from types import TracebackType

from tunemerge.graph.executors.base import Done, Failed, Progress, Request
from tunemerge.graph.executors.process import WorkerProcess
from tunemerge.machine import cores

POLL = 0.5  # seconds between looks at workers that may have died with their pipe held open by a child


class LocalExecutor:
    """Workers start when they are first needed and stay warm; use it in a `with`, which ends them.

    A worker dies with this process, however that ends. After `kill` new workers start as needed.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._slots = workers or cores()
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._ended: deque[Done | Failed] = deque()

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, request: Request) -> None:
        for idle in [w for w in self._workers if w.request is None]:
            if idle.send(request):
                return
            self._drop(idle)  # it died with nothing to do
        worker = self._start()
        if not worker.send(request):
            self._ended.append(worker.lost(request))
            self._drop(worker)

    def wait(self, on_progress: Callable[[Progress], None]) -> Done | Failed:
        while not self._ended:
            for key, _ in self._selector.select(POLL):
                self._read(key.data, on_progress)
            for worker in [w for w in self._workers if w.popen.poll() is not None]:
                self._read(worker, on_progress)
                if worker.request is not None:
                    self._ended.append(worker.lost(worker.request))
                self._drop(worker)
        return self._ended.popleft()

    def _read(self, worker: WorkerProcess, on_progress: Callable[[Progress], None]) -> None:
        for message in worker.read():
            if isinstance(message, Progress):
                on_progress(message)
            else:
                worker.request = None
                self._ended.append(message)

    def _start(self) -> WorkerProcess:
        worker = WorkerProcess()
        self._workers.append(worker)
        self._selector.register(worker.messages, selectors.EVENT_READ, worker)
        return worker

    def _drop(self, worker: WorkerProcess) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.messages)
        worker.kill()

    def kill(self) -> None:
        for worker in list(self._workers):
            self._drop(worker)
        self._ended.clear()

    def close(self) -> None:
        """Let idle workers end by themselves; kill the others."""
        for worker in list(self._workers):
            if worker.request is None:
                self._workers.remove(worker)
                self._selector.unregister(worker.messages)
                worker.close()
        self.kill()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()
