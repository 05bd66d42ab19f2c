"""A warm worker process: `python -m tunemerge.graph.executors.worker REQUESTS MESSAGES PARENT DIES`.

Reads one JSON request a line from file descriptor REQUESTS, and writes one JSON message a line to MESSAGES.
It ends when REQUESTS ends: at the latest when the parent is gone. Ctrl-C is the parent's to act upon.
"""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunemerge.graph.executors.base import Done, Failed, Progress, Request
from tunemerge.graph.executors.execute import execute
from tunemerge.store.artifacts import Store
from tunemerge.store.atomic import write_all

_PR_SET_PDEATHSIG = 1


def main() -> None:
    requests, messages, parent, dies = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    if dies:
        _die_with(parent)
    for fd in (requests, messages):
        os.set_inheritable(fd, False)  # a process that an operation starts must not keep the pipes open
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()

    def send(message: Progress | Done | Failed) -> None:
        values = {"kind": type(message).__name__, **dataclasses.asdict(message)}
        try:
            write_all(messages, json.dumps(values).encode() + b"\n")
        except BrokenPipeError:
            os._exit(1)

    while True:
        values = json.loads(inbox.get())
        sys.path[:] = values["sys_path"]
        request = Request(**values["request"])
        try:
            with _printing_to(Store(request.store).log(request.key)):
                ending = execute(request, send)
        except OSError as problem:
            ending = Failed(request.key, f"the log can't be written: {problem}")
        send(ending)


def _read(fd: int, inbox: queue.SimpleQueue[bytes]) -> None:
    with os.fdopen(fd, "rb") as lines:
        for line in lines:
            inbox.put(line)
    os._exit(0)  # also in the middle of a step: nobody waits for it


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when the parent dies (Linux; elsewhere the end of the pipe does it)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Send what operations and their libraries print (file descriptors 1 and 2) to the step's log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        empty = os.fstat(fd).st_size == 0
        for saved, target in zip(kept, (1, 2), strict=True):
            os.dup2(saved, target)
            os.close(saved)
        os.close(fd)
        if empty:
            log.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
