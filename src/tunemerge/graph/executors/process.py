"""The parent's end of one worker process: start it, send it a request, read its messages, end it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tunemerge.graph.executors.base import Done, Failed, Progress, Request
from tunemerge.store.artifacts import Store
from tunemerge.store.atomic import write_all

# One thread each: n workers with one thread do more than one with n, and no neighbour's load can stall them.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # the setting with which CUDA's matrix products are repeatable
    "PYTHONHASHSEED": "0",
}

_MESSAGES = {"Progress": Progress, "Done": Done, "Failed": Failed}


class WorkerProcess:
    """Started with the parent's import path, in a session of its own: Ctrl-C in the terminal doesn't reach it."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self._unread = b""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        theirs_in, self._requests = os.pipe()
        self.messages, theirs_out = os.pipe()
        # The kernel would kill the worker at the end of the *thread* that started it; only the main one will do.
        dies = int(threading.current_thread() is threading.main_thread())
        fds = [theirs_in, theirs_out]
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunemerge.graph.executors.worker", *map(str, [*fds, os.getpid(), dies])],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            pass_fds=fds,
            start_new_session=True,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(_import_path())},
        )
        for fd in fds:
            os.close(fd)
        os.set_blocking(self.messages, False)

    def send(self, request: Request) -> bool:
        """False where the worker is dead."""
        self.request = request
        values = {"request": dataclasses.asdict(request), "sys_path": _import_path()}
        try:
            write_all(self._requests, json.dumps(values).encode() + b"\n")
        except BrokenPipeError:
            return False
        return True

    def read(self) -> list[Progress | Done | Failed]:
        """The messages that have come so far, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.messages, 1 << 16):
                self._unread += data
        *lines, self._unread = self._unread.split(b"\n")
        values = [json.loads(line) for line in lines]
        return [_MESSAGES[value.pop("kind")](**value) for value in values]

    def lost(self, request: Request) -> Failed:
        """What to report when the worker died with this request."""
        code = self.popen.wait()
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {_signal_name(-code)}"
        if code == -signal.SIGKILL:
            how += " (often: the machine was out of memory)"
        said = ""
        log = Store(request.store).log(request.key)
        if request.private:
            said = "; what it printed is not shown: the step reads rows of a private task"
        elif log.exists():
            said = f"; it had printed (all of it in {log}):\n" + _tail(log.read_bytes())
        elif os.fstat(self._said.fileno()).st_size:
            self._said.seek(0)
            said = "; it had printed:\n" + _tail(self._said.read())
        return Failed(request.key, f"its worker {how}{said}", lost=True)

    def kill(self) -> None:
        """End it and the processes that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(1)  # gone in milliseconds; in the middle of a slow fsync it can only die afterwards
        for fd in (self._requests, self.messages):
            if fd >= 0:
                os.close(fd)
        self._requests = self.messages = -1
        self._said.close()

    def close(self) -> None:
        """Let an idle worker go; killed if it has not gone soon."""
        os.close(self._requests)
        self._requests = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(2)
        self.kill()


def _import_path() -> list[str]:
    return [entry or str(Path.cwd()) for entry in sys.path]


def _tail(text: bytes, lines: int = 30) -> str:
    return "\n".join(text.decode(errors="replace").rstrip().splitlines()[-lines:])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
