"""Runs a plan over models: tensors on several threads, blocks through a fixed buffer, results straight into place.

Memory is what `buffer_bytes` says and what views of models hold, whatever the model's size. The output depends on the
plan and the inputs alone: not on threads, block size, shards, or the order in which tensors are finished.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from tunemerge import machine
from tunemerge.checkpoint.dtypes import Array, itemsize
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.source import Model
from tunemerge.checkpoint.writer import SHARD_BYTES, CheckpointWriter, TensorSpec, file_order
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.merge.blocks import BLOCK, InterruptedMergeError, Sink, block_length, copy_equal, stream_tensor
from tunemerge.merge.loader import KEPT_BYTES as READ_BYTES
from tunemerge.merge.method import Unit
from tunemerge.merge.plan import MergePlan, TensorPlan
from tunemerge.merge.sparse import KEPT_BYTES
from tunemerge.merge.spectral import MATRIX_BYTES

ROOM = 4 << 30
"""Bytes that the matrices of spectral methods, worked on at once, may take together."""

PATIENCE = 2.0
"""Seconds that threads get to stop. A decomposition can't be stopped; what it yields later is not written."""

Progress = Callable[[float, str], None]
MAX_REPORTED = 10


def silent(fraction: float, message: str) -> None:
    """No progress display."""


def buffer_bytes(plan: MergePlan, threads: int, block: int = BLOCK) -> int:
    """The memory that the engine takes, at most: blocks for every thread, and matrices up to ROOM or the largest."""
    sizes = [(_unit(t, plan.seed), t) for t in plan.tensors]
    blocks = [_bytes(tensor, unit, block) for unit, tensor in sizes if unit != "tensor"]
    matrices = [_bytes(tensor, unit, block) for unit, tensor in sizes if unit == "tensor"]
    largest = max(matrices, default=0)
    return threads * max(blocks, default=0) + min(threads * largest, max(largest, ROOM))


def _unit(tensor: TensorPlan, seed: int) -> Unit:
    return "element" if tensor.copy else tensor.stream(seed).unit


def _bytes(tensor: TensorPlan, unit: Unit, block: int) -> int:
    length = min(block_length(unit, tensor.shape, block), tensor.size)
    inputs = len(tensor.inputs) + (tensor.base is not None)
    kept = MATRIX_BYTES if unit == "tensor" else 0
    counters = max(1 << 19, min(4 * tensor.size, 1 << 24))
    masks = min(KEPT_BYTES, tensor.size * len(tensor.inputs) // 8)
    read = min(READ_BYTES, 4 * tensor.size * inputs) if unit != "tensor" else 0
    return length * (8 * inputs + 8 + 8 + inputs + kept) + len(tensor.inputs) * counters + masks + read


class _Room:
    """Lets threads in while what they hold together is at most `limit` bytes; one alone may hold more."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._changed = limit, 0, threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()


def run_tensors(
    plan: MergePlan,
    models: Sequence[Model],
    sink_of: Callable[[TensorPlan], Sink],
    *,
    threads: int,
    device: str = "auto",
    progress: Progress = silent,
    finished: Callable[[str], None] = lambda name: None,
    block: int = BLOCK,
) -> None:
    """Merge every tensor of the plan, in its order. FindingsError with all tensors that can't be merged.

    `finished` is told, from the thread that calls this function, which tensors are complete. `device` is where
    spectral methods compute, as `spectral.find_device` has it.
    """
    halt, room, own = threading.Event(), _Room(ROOM), threading.local()

    def work(tensor: TensorPlan) -> None:
        into = sink_of(tensor)

        def sink(start: int, values: Array) -> None:
            if halt.is_set():
                raise InterruptedMergeError
            into(start, values)

        if halt.is_set():
            raise InterruptedMergeError
        sources = [models[i.model].source(i.name) for i in tensor.inputs]
        base = models[tensor.base.model].source(tensor.base.name) if tensor.base else None
        if tensor.copy:
            copy_equal([*sources, *([base] if base else [])], tensor.size, sink, block)
        else:
            stream, dtype = tensor.stream(plan.seed, device), tensor.out_dtype
            size = _bytes(tensor, stream.unit, block) if stream.unit == "tensor" else 0
            if not hasattr(own, "memory"):
                own.memory = np.empty(READ_BYTES, np.uint8)
            with room.take(size) if size else nullcontext():
                stream_tensor(stream, sources, base, tensor.shape, dtype, sink, block, halt.is_set, own.memory)

    refused: list[Finding] = []
    total, done = sum(t.size for t in plan.tensors) or 1, 0
    pool = ThreadPoolExecutor(max(1, threads), "merge")
    futures: dict[Future[None], TensorPlan] = {}
    try:
        futures |= {pool.submit(work, tensor): tensor for tensor in plan.tensors}
        for future in as_completed(futures):
            tensor = futures[future]
            try:
                future.result()
                finished(tensor.name)
            except InterruptedMergeError:
                continue
            except UsageError as problem:
                refused.append(error("merge-tensor", str(problem), tensor.name))
                if len(refused) >= MAX_REPORTED:
                    halt.set()
            done += tensor.size
            progress(done / total, tensor.name)
        pool.shutdown()
    except BaseException:
        halt.set()
        pool.shutdown(wait=False, cancel_futures=True)
        wait([future for future in futures if not future.cancelled()], PATIENCE)
        raise
    if refused:
        raise FindingsError(sorted(refused, key=lambda f: f.where))


def write_tensors(
    plan: MergePlan,
    models: Sequence[Model],
    folder: Path,
    *,
    metadata: Mapping[str, str],
    threads: int | None = None,
    device: str = "auto",
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    block: int = BLOCK,
) -> dict[str, str]:
    """Write the weight files of the merged model into an existing folder, and check them by opening them again.

    Returns the SHA-256 of each file by name. The plan's models in its order.
    """
    specs = {t.name: TensorSpec(t.out_dtype, t.shape) for t in plan.tensors}
    places = {name: place for place, name in enumerate(file_order(specs, shard_bytes))}
    ordered = MergePlan(plan.models, tuple(sorted(plan.tensors, key=lambda t: places[t.name])), plan.seed)
    with CheckpointWriter(folder, specs, metadata, shard_bytes) as writer:

        def sink_of(tensor: TensorPlan) -> Sink:
            return lambda start, values: writer.write(tensor.name, start, values)

        run_tensors(
            ordered,
            models,
            sink_of,
            threads=machine.threads() if threads is None else threads,
            device=device,
            progress=progress,
            finished=writer.finished,
            block=block,
        )
        digests = writer.close()
    _check_written(folder, specs)
    return digests


def _check_written(folder: Path, specs: Mapping[str, TensorSpec]) -> None:
    found = {name: TensorSpec(t.dtype, t.shape) for name, t in open_checkpoint(folder).tensors.items()}
    if found != dict(specs):
        raise TunemergeError(f"{folder}: what was written does not read back as planned; is the disk sound?")


def output_bytes(plan: MergePlan) -> int:
    """Bytes of the merged tensors."""
    return sum(t.size * itemsize(t.out_dtype) for t in plan.tensors)
