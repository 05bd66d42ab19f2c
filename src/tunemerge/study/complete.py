"""What a kind of task infers from all tables of a study together, filled into the options of its tasks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from tunemerge.checkpoint.locate import locate
from tunemerge.data.load import read_table, table_path
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.tasks.task import TASKS, TaskKind

Tables = dict[Path, pd.DataFrame | UsageError]


def read_once(path: Path, cache: Tables) -> pd.DataFrame | UsageError:
    """The table of a file, or what is wrong with it."""
    if path not in cache:
        try:
            cache[path] = read_table(path)
        except UsageError as e:
            cache[path] = e
    return cache[path]


def completed(config: StudyConfig, folder: Path, cache: Tables) -> StudyConfig:
    """The study with every task's options filled in, from given models of its kind where they say it, else from the
    tables. What can't be read is left out; that is said elsewhere."""
    tasks = dict(config.tasks)
    for kind in {str(t.kind) for t in tasks.values() if t.options is not None}:
        own = {n: t for n, t in tasks.items() if t.kind == kind and t.options is not None}
        options = {n: _by_models(config, TASKS[kind], t.options, folder) for n, t in own.items()}
        places = [
            (name, found)
            for name, task in own.items()
            for file in ([task.data] if task.data else task.files.values())
            if isinstance(found := read_once(table_path(folder, str(file)), cache), pd.DataFrame)
        ]
        apart = [_apart(own[name], config) for name, _ in places]
        filled = TASKS[kind].complete([options[n] for n, _ in places], [t for _, t in places], apart)
        for (name, _), one in zip(places, filled, strict=True):
            tasks[name] = own[name].with_options(one)
    return config.model_copy(update={"tasks": tasks})


def _apart(task: TaskConfig, config: StudyConfig) -> set[str]:
    """Columns that the study reads for something else."""
    column = config.splits.column if config.splits else None
    return {c for c in (task.unit, task.weight, column, *task.where) if c is not None}


def _by_models(config: StudyConfig, kind: TaskKind, options: Any, folder: Path) -> Any:
    asked = [config.base, *(m if isinstance(m, str) else m.model for m in config.pool.values())]
    for model in (m for m in asked if isinstance(m, str)):
        with suppress(TunemergeError):
            path = locate(model, folder, download=False)
            options = kind.complete_for(options, path) if path.is_dir() else options
    return options
