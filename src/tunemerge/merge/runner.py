"""Runs a plan over files: tensors on several threads, blocks through a fixed buffer, results straight into place.

Memory is what `buffer_bytes` says, whatever the model's size. The output depends on the plan and the inputs
alone: not on threads, block size, shards, or the order in which tensors are finished.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tunemerge.checkpoint.dtypes import Array, itemsize
from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.checkpoint.reader import FileReader
from tunemerge.checkpoint.writer import SHARD_BYTES, CheckpointWriter, TensorSpec
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.merge.blocks import BLOCK, InterruptedMergeError, Sink, Source, copy_equal, stream_tensor
from tunemerge.merge.plan import MergePlan, TensorPlan

Progress = Callable[[float, str], None]
MAX_REPORTED = 10


def silent(fraction: float, message: str) -> None:
    """No progress display."""


def default_threads() -> int:
    """NUMBA_NUM_THREADS or OMP_NUM_THREADS where set (workers are set to one), else the cores we may use."""
    for variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def buffer_bytes(n_models: int, threads: int, block: int = BLOCK) -> int:
    """The memory that the engine takes for itself, at most: blocks of float64 rows, raw input, scratch, counts."""
    per_thread = block * (8 * (n_models + 1) + 8 * 4 + n_models + 32) + n_models * (1 << 16) * 8
    return threads * per_thread


@dataclass(frozen=True)
class FileSource:
    """A tensor in an open file; see merge.blocks.Source."""

    reader: FileReader
    offset: int
    dtype: str
    where: str

    def read_into(self, buffer: Array, start: int) -> None:
        self.reader.read_into(buffer, self.offset + start * itemsize(self.dtype))


def run_tensors(
    plan: MergePlan,
    sources_of: Callable[[TensorPlan], tuple[Sequence[Source], Source | None]],
    sink_of: Callable[[TensorPlan], Sink],
    *,
    threads: int,
    progress: Progress = silent,
    block: int = BLOCK,
) -> None:
    """Merge every tensor of the plan, large ones first. FindingsError with all tensors that can't be merged."""
    if block < 8 or block % 8:
        raise ValueError(f"block must be a positive multiple of 8, not {block}")
    halt = threading.Event()
    order = sorted(plan.tensors, key=lambda t: (-t.size, t.name))
    refused: list[Finding] = []

    def work(tensor: TensorPlan) -> TensorPlan:
        if halt.is_set():
            raise InterruptedMergeError
        sources, base = sources_of(tensor)
        if tensor.action == "copy":
            copy_equal([*sources, *([base] if base else [])], tensor.size, sink_of(tensor), block)
        else:
            stream, dtype = plan.stream(tensor), tensor.out_dtype
            stream_tensor(stream, sources, base, tensor.size, dtype, sink_of(tensor), block, halt.is_set)
        return tensor

    total, done = sum(t.size for t in order) or 1, 0
    with ThreadPoolExecutor(max(1, threads), "merge") as pool:
        futures = {pool.submit(work, tensor): tensor for tensor in order}
        try:
            for future in as_completed(futures):
                tensor = futures[future]
                try:
                    future.result()
                except InterruptedMergeError:
                    continue
                except UsageError as problem:
                    refused.append(error("merge-tensor", str(problem), tensor.name))
                    if len(refused) >= MAX_REPORTED:
                        halt.set()
                done += tensor.size
                progress(done / total, tensor.name)
        finally:
            if done < total or refused:
                halt.set()
                pool.shutdown(wait=True, cancel_futures=True)
    if refused:
        raise FindingsError(sorted(refused, key=lambda f: f.where))


def write_tensors(
    plan: MergePlan,
    models: Sequence[Checkpoint],
    base: Checkpoint | None,
    folder: Path,
    *,
    metadata: Mapping[str, str],
    threads: int | None = None,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    block: int = BLOCK,
) -> None:
    """Write the weight files of the merged model into an existing folder, and check them by opening them again."""
    specs = {t.name: TensorSpec(t.out_dtype, t.shape) for t in plan.tensors}
    with ExitStack() as stack:
        opened = _Readers(stack, [*models, *([base] if base else [])])
        writer = CheckpointWriter(folder, specs, metadata, shard_bytes)
        stack.callback(writer.abandon)

        def sources_of(tensor: TensorPlan) -> tuple[Sequence[Source], Source | None]:
            with_base = base is not None and tensor.uses_base
            return (
                [opened.source(model, tensor.name) for model in models],
                opened.source(base, tensor.name) if base is not None and with_base else None,
            )

        def sink_of(tensor: TensorPlan) -> Sink:
            return lambda start, values: writer.write(tensor.name, start, values)

        count = default_threads() if threads is None else threads
        run_tensors(plan, sources_of, sink_of, threads=count, progress=progress, block=block)
        writer.close()
    _check_written(folder, specs)


def _check_written(folder: Path, specs: Mapping[str, TensorSpec]) -> None:
    found = {name: TensorSpec(t.dtype, t.shape) for name, t in open_checkpoint(folder).tensors.items()}
    if found != dict(specs):
        raise TunemergeError(f"{folder}: what was written does not read back as planned; is the disk sound?")


class _Readers:
    """One open file for every weight file of the inputs, closed with the stack."""

    def __init__(self, stack: ExitStack, checkpoints: Sequence[Checkpoint]) -> None:
        paths = {model.folder / file for model in checkpoints for file in model.files}
        self._open = {path: stack.enter_context(FileReader(path)) for path in sorted(paths)}

    def source(self, model: Checkpoint, name: str) -> FileSource:
        info, path = model.tensors[name], model.file_of(name)
        return FileSource(self._open[path], info.start, info.dtype, f"{path}: {name}")


def output_bytes(plan: MergePlan) -> int:
    """Bytes of the merged tensors."""
    return sum(math.prod(t.shape) * itemsize(t.out_dtype) for t in plan.tensors)
