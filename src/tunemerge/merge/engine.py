"""Merging checkpoints on disk: plan, write beside the target, publish by renaming."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.checkpoint.source import open_model
from tunemerge.checkpoint.tokenizers import tokenizer_findings
from tunemerge.checkpoint.writer import SHARD_BYTES
from tunemerge.errors import TunemergeError
from tunemerge.findings import refuse_errors
from tunemerge.merge.blocks import BLOCK
from tunemerge.merge.folder import copy_companions, write_record
from tunemerge.merge.method import METHODS
from tunemerge.merge.parameters import Values
from tunemerge.merge.plan import MergePlan, ParametersOf, plan_merge
from tunemerge.merge.runner import Progress, output_bytes, silent, write_tensors
from tunemerge.merge.target import refuse_disk, refuse_target, work_folder
from tunemerge.store.atomic import replace_folder


def merge_checkpoints(
    method: str,
    models: Sequence[Path],
    out: Path,
    *,
    base: Path | None = None,
    parameters: Values | ParametersOf | None = None,
    seed: int = 0,
    average: Collection[str] = (),
    average_missing: bool = False,
    lines: Values | None = None,
    out_dtype: str | None = None,
    tokenizer: Path | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    record: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
    block: int = BLOCK,
) -> Path:
    """Merge model folders into the model folder `out`, which exists only once it is complete.

    `out` may be the output of an earlier merge, which stays until the new one is there. `out_dtype` is a
    safetensors name ("BF16"); None keeps the dtypes of the base, or of the first model. `average`,
    `average_missing` and `lines` as in `plan_merge`. `tokenizer` names the model whose tokenizer files are copied.
    Raises UsageError, before anything is written where possible, with everything that is wrong.
    """
    out = Path(out)
    refuse_target(out, [*models, *([base] if base else [])])
    opened = [open_checkpoint(Path(model)) for model in models]
    ancestor = open_checkpoint(Path(base)) if base is not None else None
    words = open_checkpoint(Path(tokenizer)) if tokenizer is not None else None
    refuse_errors(tokenizer_findings({str(m.folder): m.folder for m in [*opened, *([ancestor] if ancestor else [])]}))
    plan = plan_checkpoints(
        method,
        opened,
        ancestor,
        parameters or {},
        seed=seed,
        average=average,
        average_missing=average_missing,
        lines=lines,
        out_dtype=out_dtype,
    )
    refuse_disk(out, output_bytes(plan))
    with work_folder(out) as work:
        fill_folder(
            plan,
            opened,
            ancestor,
            work,
            tokenizer=words,
            out_dtype=out_dtype,
            record={**(record or {}), **({"lines": dict(lines)} if lines else {})},
            threads=threads,
            progress=progress,
            shard_bytes=shard_bytes,
            block=block,
        )
        replace_folder(work, out)
    return out


def plan_checkpoints(
    method: str,
    models: Sequence[Checkpoint],
    base: Checkpoint | None,
    parameters: Values | ParametersOf,
    *,
    seed: int = 0,
    average: Collection[str] = (),
    average_missing: bool = False,
    lines: Values | None = None,
    out_dtype: str | None = None,
) -> MergePlan:
    """`plan_merge` for opened checkpoints; errors call a model by its folder."""
    return plan_merge(
        METHODS[method],
        [(str(m.folder), m.tensors) for m in models],
        (str(base.folder), base.tensors) if base else None,
        parameters,
        seed=seed,
        average=average,
        average_missing=average_missing,
        lines=lines,
        out_dtype=out_dtype,
    )


def fill_folder(
    plan: MergePlan,
    models: Sequence[Checkpoint],
    base: Checkpoint | None,
    folder: Path,
    *,
    tokenizer: Checkpoint | None = None,
    out_dtype: str | None = None,
    record: Mapping[str, Any],
    threads: int | None = None,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    block: int = BLOCK,
) -> None:
    """Write a whole merged model into an empty folder: weights, config, tokenizer, record.

    The config comes from the base where it holds the same tensors as the output, else from the first model.
    """
    names = {t.name for t in plan.tensors}
    donor = base if base is not None and base.has_config and base.tensors.keys() == names else models[0]
    facts = {"seed": plan.seed, "methods": methods_of(plan), **record}
    try:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_model(c)) for c in (*models, *([base] if base else []))]
            files = write_tensors(
                plan,
                opened,
                folder,
                metadata={"tunemerge": json.dumps(facts, sort_keys=True)},
                threads=threads,
                progress=progress,
                shard_bytes=shard_bytes,
                block=block,
            )
        copy_companions(donor, tokenizer or donor, out_dtype, folder)
        write_record(folder, {**facts, "files": files})
    except OSError as problem:
        raise TunemergeError(f"{folder}: writing the merged model failed: {problem.strerror}") from problem


def methods_of(plan: MergePlan) -> dict[str, Any]:
    """What was done to how many tensors, by method; the parameters where all tensors of a method have the same."""
    out: dict[str, Any] = {}
    for tensor in plan.tensors:
        name = "copy" if tensor.copy else tensor.method.name
        entry = out.setdefault(name, {"tensors": 0, "parameters": tensor.values})
        entry["tensors"] += 1
        if entry["parameters"] != tensor.values:
            entry["parameters"] = None
    return out
