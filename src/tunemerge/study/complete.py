"""What a kind of task infers from all tables of a study together, filled into the options of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tunemerge.checkpoint.locate import locate
from tunemerge.data.join import joined, pooled
from tunemerge.data.load import read_table, table_path
from tunemerge.errors import TunemergeError, UsageError
from tunemerge.findings import Finding, error
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.tasks.task import TASKS, TaskKind


@dataclass
class Cache:
    """Files that were read, and tables that were made of several, so that each is read and made once."""

    files: dict[Path, pd.DataFrame | UsageError] = field(default_factory=dict)
    made: dict[str, tuple[dict[str, pd.DataFrame], list[str], list[Finding]]] = field(default_factory=dict)

    def read(self, path: Path) -> pd.DataFrame | UsageError:
        """The table of a file, or what is wrong with it."""
        if path not in self.files:
            try:
                self.files[path] = read_table(path)
            except UsageError as e:
                self.files[path] = e
        return self.files[path]

    def tables(self, task: TaskConfig, folder: Path) -> tuple[dict[str, pd.DataFrame], list[str], list[Finding]]:
        """A task's tables by split, or as "data": pooled and joined as it says; the columns of all that could be read;
        and what is wrong with them (the place is for the caller to say)."""
        key = repr((folder, task.data, task.files, task.join))
        if key not in self.made:
            self.made[key] = _tables(task, folder, self)
        return self.made[key]


def _tables(task: TaskConfig, folder: Path, cache: Cache) -> tuple[dict[str, pd.DataFrame], list[str], list[Finding]]:
    found: list[Finding] = []
    columns: dict[str, None] = {}

    def read(file: str) -> pd.DataFrame | None:
        table = cache.read(table_path(folder, file))
        if isinstance(table, UsageError):
            found.append(error("bad-data", str(table)))
            return None
        columns.update(dict.fromkeys(map(str, table.columns)))
        return table

    if not task.data:
        tables = {str(split): read(file) for split, file in task.files.items()}
        return {split: t for split, t in tables.items() if t is not None}, list(columns), found
    files = [task.data] if isinstance(task.data, str) else task.data
    parts = {name: t for name, file in zip(_stems(files), files, strict=True) if (t := read(file)) is not None}
    others = [(how, t) for how in task.join if (t := read(how.table)) is not None]
    if found:
        return {}, list(columns), found
    table, found = (next(iter(parts.values())), []) if isinstance(task.data, str) else pooled(parts, "")
    for how, other in others:
        if not any(f.severity == "error" for f in found):
            table, more = joined(table, other, how, "")
            found += more
    wrong = any(f.severity == "error" for f in found)
    return {} if wrong else {"data": table}, list(columns), found


def _stems(files: Sequence[str]) -> list[str]:
    """What tables are called in the column `source`: by their names without endings, where these differ."""
    stems = [Path(file).name.split(".")[0] for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)


def completed(config: StudyConfig, folder: Path, cache: Cache) -> StudyConfig:
    """The study with every task's options filled in, from given models of its kind where they say it, else from the
    tables. What can't be read is left out; that is said elsewhere."""
    tasks = dict(config.tasks)
    for kind in {str(t.kind) for t in tasks.values() if t.options is not None}:
        own = {n: t for n, t in tasks.items() if t.kind == kind and t.options is not None}
        options = {n: _by_models(config, TASKS[kind], t.options, folder) for n, t in own.items()}
        places = [(name, table) for name, task in own.items() for table in cache.tables(task, folder)[0].values()]
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
