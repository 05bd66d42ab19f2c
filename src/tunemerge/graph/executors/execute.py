"""Compute one requested step in this process: lock, look again, run in a scratch folder, measure, publish."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tunemerge.errors import StoreError, TunemergeError
from tunemerge.graph.cost import Cost
from tunemerge.graph.executors.base import Done, Failed, Progress, Request
from tunemerge.graph.operation import OPERATIONS, Job
from tunemerge.graph.private import without_quoted, words
from tunemerge.plugins import ensure_plugin
from tunemerge.store.artifacts import Store

STEP_LABEL = "TUNEMERGE_STEP"
"""The variable that names the step for what it runs (trackers); its label is no part of its parameters or its key."""

BETWEEN_PROGRESS = 0.1  # seconds: an operation may report every batch, a display needs ten a second

_store = cache(Store)  # one a root and process: it remembers which inputs it has verified


def execute(request: Request, on_progress: Callable[[Progress], None]) -> Done | Failed:
    """Never raises what an operation raises: that comes back as Failed. KeyboardInterrupt passes through."""
    try:
        return _execute(request, on_progress)
    except TunemergeError as problem:
        said = str(problem)
        return Failed(request.key, without_quoted(said, set(words(request.params))) if request.private else said)
    except (Exception, SystemExit) as problem:
        # A message of anybody's may hold a row; where it happened is code, and the name of the error says what.
        kind = f"{type(problem).__name__} (its message is not shown: the step reads rows of a private task)"
        said = kind if request.private else "".join(traceback.format_exception_only(problem)).strip()
        ours = traceback.extract_tb(problem.__traceback__)
        frames = "".join(traceback.format_list([f for f in ours if f.filename != __file__][-6:]))
        return Failed(request.key, f"{said}\n{frames}".rstrip())


def _execute(request: Request, on_progress: Callable[[Progress], None]) -> Done | Failed:
    if request.op not in OPERATIONS:
        importlib.import_module(request.module)
    for plugin in request.plugins:
        ensure_plugin(**plugin)  # type: ignore[arg-type]
    operation = OPERATIONS[request.op]
    store: Store = _store(request.store)
    with store.lock(request.key, wait=False) as free:
        if not free:
            on_progress(Progress(request.key, 0.0, "another process computes it"))
    with store.lock(request.key):
        if store.get(request.key) is not None:
            return Done(request.key, cached=True)
        inputs = {name: tuple(Path(path) for _, path in sources) for name, sources in request.inputs.items()}
        for name, paths in inputs.items():
            for path in paths:
                store.verify_input(path)
                if not path.exists():
                    raise StoreError(f"{path}: the input {name!r} is not there (any more)")
        out = store.scratch(request.key)
        try:
            os.environ[STEP_LABEL] = request.label
            operation.prepare(request.params)
            start = time.perf_counter()
            _reset_peak_memory()
            progress, unfinished = _throttled(request.key, on_progress), store.unfinished(request.key)
            cost = operation.run(Job(request.params, inputs, out, progress, unfinished))
            if not isinstance(cost, Cost):
                raise TypeError(f"operation {request.op!r} returned {cost!r}, expected a Cost")
            seconds = cost.seconds + time.perf_counter() - start  # those of an attempt that this one went on with
            cost = dataclasses.replace(cost, seconds=seconds, peak_memory=_peak_memory())
            store.publish(request.key, request.op, out, cost.as_dict(), request.meta)
            shutil.rmtree(unfinished, ignore_errors=True)
        finally:
            shutil.rmtree(out, ignore_errors=True)
    return Done(request.key, cached=False)


def _throttled(key: str, on_progress: Callable[[Progress], None]) -> Callable[[float, str], None]:
    last = [float("-inf"), -1.0]

    def progress(fraction: float, message: str = "") -> None:
        now, fraction = time.monotonic(), min(max(float(fraction), 0.0), 1.0)
        if now - last[0] >= BETWEEN_PROGRESS or (fraction == 1.0 and last[1] < 1.0):
            last[:] = now, fraction
            on_progress(Progress(key, fraction, message))

    return progress


def _reset_peak_memory() -> None:
    """Linux only; elsewhere the peak is that of the process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_memory() -> int:
    """Bytes."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
