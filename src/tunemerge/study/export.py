"""One arm's model out of the store: a plain Hugging Face folder with a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tunemerge.errors import UsageError
from tunemerge.registry import nearest
from tunemerge.report.card import render_card
from tunemerge.results import ArmResult, Results
from tunemerge.store.artifacts import Store
from tunemerge.store.atomic import refuse_foreign, replacing, write_file
from tunemerge.study.verdict import median_position

RECORD = "tunemerge_export.json"

# What a step leaves beside the model that is not part of the model.
_NOT_EXPORTED = {"manifest.json", "tunemerge_tune.json", "choice.json"}


def export_arm(
    results: Results,
    store: Store,
    out: Path,
    arm: str | None = None,
    task: str | None = None,
    seed: int | None = None,
) -> None:
    """Write the model of `arm` (default: the one handed back) to `out`, replacing what stands there when complete.

    `task` is needed for an arm with one model a task. `seed`: default the one with the median validation score.
    Raises UsageError for an unknown name, an ensemble, or a store that has lost the model.
    """
    name = arm or results.verdict.handed_back
    if name is None:
        raise UsageError(f"{results.name} handed back no arm; name one with --arm")
    by_name = {a.name: a for a in results.arms}
    if name not in by_name:
        raise UsageError(f"unknown arm {name!r}{nearest(name, list(by_name))}")
    chosen = by_name[name]
    position = _seed(results, chosen, seed)
    artifact = store.get(key := _key(chosen, task, position))
    if artifact is None:
        raise UsageError(f"{store.root}: the store has no step {key[:10]} any more; run the study again")
    refuse_foreign(out, RECORD)
    store.verify_input(artifact.path)
    with replacing(out) as folder:
        for file in sorted(artifact.path.iterdir()):
            if file.name not in _NOT_EXPORTED:
                shutil.copy2(file, folder / file.name)
        write_file(folder / "README.md", render_card(results, name, results.seeds[position]).encode())
        record = {"study": results.name, "arm": name, "seed": results.seeds[position], "step": key}
        write_file(folder / RECORD, json.dumps({**record, "digest": artifact.digest}, indent=1).encode())


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
    if len(models) > 1:
        raise UsageError(f"{arm.name} is an ensemble of {len(models)} models, not one checkpoint")
    return models[0]
