"""Adapters on disk: extracted from two checkpoints, written beside the target and published by renaming."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from tunemerge.checkpoint.adapter import CONFIG, RECORD, WEIGHTS, open_adapter
from tunemerge.checkpoint.adapter_writer import NewAdapter, write_adapter
from tunemerge.checkpoint.fingerprint import fingerprint
from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.checkpoint.skeleton import skeleton
from tunemerge.checkpoint.source import open_model
from tunemerge.errors import TunemergeError
from tunemerge.machine import threads
from tunemerge.merge.interrupt import interruptible
from tunemerge.merge.lora.extract import Extraction, Request, extract
from tunemerge.merge.lora.mix import Mix
from tunemerge.merge.lora.survey import survey
from tunemerge.merge.lora.together import combine
from tunemerge.merge.runner import Progress, silent
from tunemerge.merge.target import refuse_target, work_folder
from tunemerge.store.atomic import replace_folder
from tunemerge.store.remember import file_digest, file_digests

RANK = 32
"""The rank of an extraction that asks for neither a rank nor a share of energy."""

_CAT = Mix()


def extract_adapter(
    model: str | Path,
    base: str | Path,
    out: Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    whole: Collection[str] = (),
    skip: Collection[str] = (),
    device: str = "auto",
    progress: Progress = silent,
) -> Extraction:
    """Write the low-rank adapter of `model` over `base` into the folder `out`, which PEFT loads.

    `rank` at most (RANK where neither is given); `energy`: the least rank that keeps this share of the change's squared
    norm; `whole`: parts of names of tensors to keep whole; `skip`: of tensors to leave as the base has them; `device`:
    where torch computes (`spectral.find_device`).
    `out` exists only once it is complete; an adapter that was made here is replaced. Raises UsageError.
    """
    folders = [locate(str(model)), locate(str(base))]
    refuse_target(Path(out), folders, RECORD)
    opened, under = (open_checkpoint(folder) for folder in folders)
    asked = RANK if rank is None and energy is None else rank
    request = Request(asked, energy, tuple(whole), tuple(skip), device)
    with open_model(opened) as there, open_model(under) as here:
        seen = survey(there.tensors, skeleton(opened.config, list(there.tensors)))
        found = interruptible(lambda: extract(there, here, request, seen, progress))
        record = {
            **_made("extract-lora"),
            "rank": request.rank,
            "energy": request.energy,
            "whole": list(request.whole),
            "skip": list(request.skip),
            "base": {"name": _name(base, folders[1]), "fingerprint": fingerprint(here), "files": _digests(under)},
            "model": {"name": _name(model, folders[0]), "files": _digests(opened)},
            "tied": {name: ours for name, ours in seen.tied.items() if name in found.adapter.whole},
            "tensors": {row.name: {k: v for k, v in asdict(row).items() if k != "name"} for row in found.rows},
        }
        settings = {"base_model_name_or_path": _name(base, folders[1]), "task_type": _task(opened)}
        adapter = replace(found.adapter, settings={**found.adapter.settings, **settings}, record=record)
        publish(adapter, Path(out))
    return replace(found, adapter=adapter)


def merge_adapters(
    adapters: Sequence[str | Path], out: Path, mix: Mix = _CAT, *, progress: Progress = silent
) -> NewAdapter:
    """Merge LoRA adapters of one base into one, which PEFT loads, in the folder `out`; see `Mix`. Needs no base.

    `out` exists only once it is complete; an adapter that was made here is replaced. Raises UsageError.
    """
    folders = [locate(str(adapter)) for adapter in adapters]
    refuse_target(Path(out), folders, RECORD)
    opened = [open_adapter(folder) for folder in folders]
    merged = interruptible(lambda: combine(opened, mix, progress))
    record = {
        **_made("merge-lora"),
        **asdict(mix),
        "base": opened[0].record.get("base", {"name": opened[0].base}),
        "adapters": [
            {
                "name": _name(given, a.folder),
                "files": {WEIGHTS: file_digest(a.file), CONFIG: file_digest(a.folder / CONFIG)},
            }
            for given, a in zip(adapters, opened, strict=True)
        ],
        "tied": {name: ours for a in opened for name, ours in a.record.get("tied", {}).items()},
        "ranks": {weight.module: weight.rank for weight in merged.weights},
    }
    merged = replace(merged, record=record)
    publish(merged, Path(out))
    return merged


def _made(operation: str) -> dict[str, str]:
    return {"made_by": f"tunemerge {version('tunemerge')}", "operation": operation}


def publish(adapter: NewAdapter, out: Path) -> None:
    """Write an adapter beside `out` and put it there in one move; a disk that fails is a TunemergeError."""
    with work_folder(out) as work:
        try:
            write_adapter(adapter, work)
            replace_folder(work, out)
        except OSError as problem:
            raise TunemergeError(f"{out}: writing the adapter failed: {problem.strerror}") from problem


def _task(model: Checkpoint) -> str | None:
    """PEFT's class for text generation; for heads of other kinds it would save a head, changed or not."""
    architectures = model.config.get("architectures")
    return "CAUSAL_LM" if isinstance(architectures, list) and str(architectures[:1]).endswith("CausalLM']") else None


def _name(given: str | Path, folder: Path) -> str:
    """A Hub id as it is; for what is on this disk the folder."""
    local = str(given).startswith("package:") or Path(given).expanduser().exists()
    return str(folder) if local else str(given)


def _digests(checkpoint: Checkpoint) -> Mapping[str, str]:
    paths = [checkpoint.folder / file for file in checkpoint.files]
    return {path.name: digest for path, digest in file_digests(paths, threads()).items()}
