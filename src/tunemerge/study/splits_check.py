"""What is wrong with the splits of a task: those that are not there, or have no rows, or one unit."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tunemerge.findings import Finding, error
from tunemerge.study.config import StudyConfig
from tunemerge.study.roles import needs, role_of

Frames = Mapping[str, pd.DataFrame]


def check_splits(name: str, config: StudyConfig, by_run: Mapping[int, Frames]) -> list[Finding]:
    """What is wrong with a task's splits. What is wrong for one run is mostly wrong for all, with other counts: the
    first is enough."""
    found: list[Finding] = []
    for parts in by_run.values():
        known = {(f.code, f.where) for f in found}
        problems = [*_missing(name, config, parts), *_one_unit(parts, f"tasks.{name}")]
        found += [f for f in problems if (f.code, f.where) not in known]
    return found


def _missing(name: str, config: StudyConfig, parts: Frames) -> list[Finding]:
    """Splits that the task's role needs and that aren't there."""
    found = []
    role, task = role_of(name, config), config.tasks[name]
    for split in needs(role, config):
        if split not in parts:
            key = "splits" if task.data else "files"
            where = f"tasks.{name}.{key}" if task.splits or task.files else "splits"
            text = f"{role} {name!r} needs {split} rows"
            found.append(error("missing-split", text, where, f"add `{split}:`"))
    for split in dict.fromkeys([*needs(role, config), *([] if config.pool else ["source"])]):
        if split in parts and parts[split].empty:
            fix = "take fewer folds, other sizes or a shorter gap" if config.splits else ""
            found.append(error("empty-split", f"the {split} split has no rows", f"tasks.{name}", fix))
    return found


def _one_unit(parts: Frames, where: str) -> list[Finding]:
    """What is tested needs two units, whatever its kind."""
    return [
        error("one-unit", f"all {split} rows belong to one unit; intervals need two", where)
        for split, rows in parts.items()
        if split in ("test", "held_out") and len(rows) and rows["unit"].nunique() < 2
    ]
