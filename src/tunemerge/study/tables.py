"""The tables of a study, read and made rows of their kinds of task, before anything is split."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from tunemerge.data.load import Columns, rows_of
from tunemerge.findings import Finding
from tunemerge.study.complete import Cache
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.roles import role_of
from tunemerge.study.splitting import TaskTables
from tunemerge.tasks.task import TASKS


def read_tables(
    config: StudyConfig, folder: Path, cache: Cache
) -> tuple[dict[str, TaskTables], dict[str, list[str]], list[Finding]]:
    """The tables of every task whose rows can be used, the columns of all that could be read, and what is wrong. Files
    are read once."""
    found: list[Finding] = []
    given: dict[str, TaskTables] = {}
    for name, task in config.tasks.items():
        if role_of(name, config) == "source" and config.pool and config.target in config.tasks:
            continue
        if task.options is None:  # no such kind: said elsewhere
            continue
        tables, problems = _read(name, task, folder, cache)
        found += problems
        if not any(f.severity == "error" for f in problems):
            given[name] = tables
    columns = {name: cache.tables(task, folder)[1] for name, task in config.tasks.items()}
    return given, columns, found


def _read(name: str, task: TaskConfig, folder: Path, cache: Cache) -> tuple[TaskTables, list[Finding]]:
    """Every table of a task (by split, or "data"), as rows and as it is, and what is wrong with them."""
    kind = TASKS[str(task.kind)]
    source = kind.source(task.options)
    columns = Columns(
        source.columns, source.required, task.unit, task.weight, {k: str(v) for k, v in task.where.items()}
    )
    tables, _, problems = cache.tables(task, folder)
    found = [replace(f, where=f"tasks.{name}") for f in problems]
    rows: dict[str, pd.DataFrame] = {}
    raw: dict[str, pd.DataFrame] = {}
    for split, whole in tables.items():
        where = f"tasks.{name} ({task.tables[split]})"
        raw[split] = table = kind.unfold(whole, task.options)
        remedy = f"name it: `{{role}}: COLUMN` in tasks.{name}"
        convert = partial(kind.convert, options=task.options, where=where)
        rows[split], problems = rows_of(table, columns, convert, kind.target, where, remedy)
        found += problems
    return TaskTables(rows, raw), found
