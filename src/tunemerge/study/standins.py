"""Stand-ins for rows and models that can't be used, so that what doesn't depend on them is checked all the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tunemerge.graph.step import Leaf, Role
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.roles import needs
from tunemerge.study.rows import StudyRows, TaskRows

# For splits whose size nobody knows: no budget in epochs is too small for it.
_ROWS = 10_000


def rows_with_stand_ins(rows: StudyRows, config: StudyConfig) -> StudyRows:
    """The same rows; a task's splits that are needed, or asked for, and aren't there become leaves of no content."""
    tasks = {name: _task(task, config) for name, task in rows.tasks.items()}
    return replace(rows, tasks=tasks)


def models_with_stand_ins(config: StudyConfig, models: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """The located models, and a leaf of no content for each that the study names and that isn't there."""
    names = [*(["base"] if config.base else []), *config.pool]
    return {name: models.get(name) or Leaf(f"stand-in {name}", Path(), "model", name) for name in names}


def _task(task: TaskRows, config: StudyConfig) -> TaskRows:
    given = (*task.config.splits, *task.config.files, *task.sizes)
    wanted = dict.fromkeys([*needs(task.role, config), *map(str, given)])
    parts = {
        seed: {**{s: _leaf(task.name, s, task.config.private) for s in wanted}, **own}
        for seed, own in task.parts.items()
    }
    known = {split: size for split, size in task.sizes.items() if size}
    return replace(task, parts=parts, sizes={**{s: _size(task.config, s) for s in wanted}, **known})


def _leaf(task: str, split: str, private: bool) -> Leaf:
    role: Role = "test" if split in ("test", "held_out") else "rows"
    return Leaf(f"stand-in {task} {split}", Path(), role, f"{task} {split}", task if private else "")


def _size(task: TaskConfig, split: str) -> int:
    asked = {str(k): v for k, v in task.splits.items()}.get(split, 0)
    return int(asked) if asked >= 1 else _ROWS
