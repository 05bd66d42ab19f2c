"""One arm's model out of the store: a plain Hugging Face folder with a model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.adapter import CONFIG, FOLDER
from tunemerge.checkpoint.model import read_json
from tunemerge.data.seen import FILE as SEEN
from tunemerge.errors import UsageError
from tunemerge.registry import listed, nearest
from tunemerge.report.card import render_card
from tunemerge.results import ArmResult, Results
from tunemerge.store.artifacts import Store
from tunemerge.store.atomic import refuse_foreign, replacing, write_file
from tunemerge.study.one_head import keep_head
from tunemerge.study.verdict import median_position

RECORD = "tunemerge_export.json"
_BASE = "base"

# What a step leaves beside the model that is not part of the model.
_NOT_EXPORTED = {"manifest.json", "stripped.json", "tunemerge_tune.json", "choice.json", RECORD, "README.md"}


@dataclass(frozen=True)
class Exported:
    """What was written; `task` where the arm has a model, or a head, for each."""

    arm: str
    seed: int
    task: str | None


def export_arm(
    results: Results,
    store: Store,
    out: Path,
    arm: str | None = None,
    task: str | None = None,
    seed: int | None = None,
    kept: Path | None = None,
    adapter: bool = False,
) -> Exported:
    """Write the model of `arm` (default: the one handed back) to `out`, replacing what stands there when complete.

    `task` is needed for an arm with one model a task; of a model with several heads it takes the task's (an
    adapter keeps all). `seed`: default the one with the median validation score. Where
    `adapter`: write the adapter instead, as PEFT saves it, and the model that it is on into `out`/base. Where
    the store has lost the model, `kept` (an export of this study: its run's model/) is taken if it is the same. Raises
    UsageError for an unknown name, an ensemble, or a model that is nowhere any more.
    """
    chosen, position, key = _chosen(results, arm, task, seed)
    name = chosen.name
    if adapter:
        base = _under(results, store, chosen, key)
    found, digest = _model(store, kept, key)
    refuse_foreign(out, RECORD)
    with replacing(out) as folder:
        if adapter:
            _copy(base, folder / _BASE)
            _copy(found / FOLDER, folder)
            config = {**read_json(folder / CONFIG), "base_model_name_or_path": str(out.absolute() / _BASE)}
            write_file(folder / CONFIG, json.dumps(config, indent=1).encode())
        else:
            _copy(found, folder)
        cut = False
        if task is not None:
            info = next(t for t in results.tasks if t.name == task)
            cut = keep_head(folder, info.kind, info.labels)
        if any(t.private for t in results.tasks):
            # Who has a private row could tell by its hash that the model has seen it.
            for file in (folder / SEEN, folder / _BASE / SEEN):
                file.unlink(missing_ok=True)
        write_file(
            folder / "README.md",
            render_card(results, name, results.seeds[position], None if adapter else task).encode(),
        )
        record = {"study": results.name, "arm": name, "seed": results.seeds[position], "step": key, "digest": digest}
        write_file(folder / RECORD, json.dumps(record, indent=1).encode())
    own = cut or len({tuple(by_seed[position]) for by_seed in chosen.models.values()}) > 1
    return Exported(name, results.seeds[position], task if own else None)


def _copy(model: Path, folder: Path) -> None:
    """The files of a model, without what steps leave beside it."""
    folder.mkdir(exist_ok=True)
    for file in sorted(model.iterdir()):
        if file.name not in _NOT_EXPORTED and file.is_file():
            shutil.copy2(file, folder / file.name)


def _under(results: Results, store: Store, arm: ArmResult, key: str) -> Path:
    """The folder of the model that the arm's model is an adapter on."""
    if key not in arm.under:
        said = f": {arm.form}" if arm.form else ", no adapter was trained"
        having = [a.name for a in results.arms if a.under]
        fix = f"; these are adapters: {listed(having)}" if having else ""
        raise UsageError(f"{arm.name} is no adapter on one model{said}{fix}")
    artifact, own = store.get(arm.under[key]), store.get(key)
    if artifact is None or own is None:
        raise UsageError(
            f"{store.root}: the store has let the adapter of {arm.name} go: run the study again to have it"
        )
    store.verify_input(artifact.path)
    return artifact.path


def model_key(results: Results, arm: str | None = None, task: str | None = None, seed: int | None = None) -> str:
    """The key of the step whose model `export_arm` writes. Raises UsageError as that does."""
    return _chosen(results, arm, task, seed)[2]


def needed_keys(
    results: Results, arm: str | None = None, task: str | None = None, seed: int | None = None, adapter: bool = False
) -> list[str]:
    """The keys of the steps whose models `export_arm` reads. Raises UsageError as that does."""
    chosen, _, key = _chosen(results, arm, task, seed)
    return [key, *([chosen.under[key]] if adapter and key in chosen.under else [])]


def is_at_hand(store: Store, kept: Path, key: str) -> bool:
    """Whether the model of this step can be exported as it is, from the store or from an earlier export."""
    return store.get(key) is not None or _record(kept).get("step") == key


def _chosen(results: Results, arm: str | None, task: str | None, seed: int | None) -> tuple[ArmResult, int, str]:
    """The arm, the position of its seed, and the key of its model's step."""
    name = arm or results.verdict.handed_back
    if name is None:
        raise UsageError(f"{results.name} handed back no arm; name one with --arm")
    by_name = {a.name: a for a in results.arms}
    if name not in by_name:
        raise UsageError(f"unknown arm {name!r}{nearest(name, list(by_name))}")
    chosen = by_name[name]
    if chosen.ceiling:
        raise UsageError(f"{name} pools the rows of private tasks: an unattainable ceiling, which is never exported")
    position = _seed(results, chosen, seed)
    return chosen, position, _key(chosen, task, position)


def _record(kept: Path | None) -> dict[str, Any]:
    file = kept / RECORD if kept else None
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file and file.exists() else {}


def _model(store: Store, kept: Path | None, key: str) -> tuple[Path, str]:
    """The folder of a step's model and its digest: out of the store, else out of an earlier export."""
    artifact = store.get(key)
    if artifact is not None:
        store.verify_input(artifact.path)
        return artifact.path, artifact.digest
    record = _record(kept)
    if kept and record.get("step") == key:
        return kept, record["digest"]
    left = f"; only {record['arm']}, seed {record['seed']}, is left, in {kept}" if record else ""
    raise UsageError(f"{store.root}: the store has no step {key[:10]} any more{left}: run the study again to have it")


def _seed(results: Results, arm: ArmResult, seed: int | None) -> int:
    if seed is not None:
        if seed not in results.seeds:
            raise UsageError(f"the study has no seed {seed}; it has {results.seeds}")
        return results.seeds.index(seed)
    if arm.name == results.verdict.handed_back and results.verdict.handed_back_seed is not None:
        return results.seeds.index(results.verdict.handed_back_seed)
    sign = 1 if results.higher_is_better else -1
    return median_position([sign * v for v in arm.validation_by_seed])


def _key(arm: ArmResult, task: str | None, position: int) -> str:
    """The key of the step whose artifact is the arm's model for a task and a seed."""
    if task is not None and task not in arm.models:
        raise UsageError(f"{arm.name} has no task {task!r}{nearest(task, list(arm.models))}")
    keys = {t: by_seed[position] for t, by_seed in arm.models.items() if task in (None, t)}
    answers = {tuple(k) for k in keys.values()}
    if len(answers) > 1:
        raise UsageError(f"{arm.name} has a model for each task; say which with --task ({', '.join(arm.models)})")
    (models,) = answers
    if not models:
        raise UsageError(f"{arm.name} is a control that is fitted where it predicts: it has no checkpoint")
    if len(models) > 1:
        raise UsageError(f"{arm.name} is an ensemble of {len(models)} models, not one checkpoint")
    return models[0]
