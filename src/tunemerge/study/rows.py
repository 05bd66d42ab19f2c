"""The rows of a study: every task's splits for every seed, as leaves of the graph, and what is wrong with them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from tunemerge.data.load import ROW_COLUMNS, Columns, read_table, rows_of
from tunemerge.data.split import make_splits
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.graph.step import Leaf, Role
from tunemerge.store.digest import digest_json
from tunemerge.store.sealed import write_sealed
from tunemerge.study.config import StudyConfig, TaskConfig
from tunemerge.study.private import undeclared_labels, without_values
from tunemerge.study.rows_check import check_label_sets, check_leaks, check_splits, strange_labels

TaskRole = Literal["task", "target", "source", "retention", "unseen"]
Frames = dict[str, pd.DataFrame]

NEEDS: Mapping[TaskRole, tuple[str, ...]] = {
    "task": ("adapt", "validation", "test"),
    "target": ("adapt", "validation", "test"),
    "source": ("source", "validation"),  # nothing where the pool is given
    "retention": ("test",),
    "unseen": ("test",),
}


@dataclass(frozen=True)
class TaskRows:
    """One task: its rows by seed and split. The test split is the same for all seeds."""

    name: str
    role: TaskRole
    config: TaskConfig
    parts: Mapping[int, Mapping[str, Leaf]]
    sizes: Mapping[str, int]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class StudyRows:
    """All tasks, the study's label set, and the table behind every leaf (by digest), written when a run starts."""

    tasks: Mapping[str, TaskRows]
    labels: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame]

    def write(self, leaves: Iterable[Leaf]) -> None:
        """Put the tables of these leaves where steps read them, and right a file that was damaged."""
        for leaf in leaves:
            if leaf.digest in self.tables:
                buffer = io.BytesIO()
                self.tables[leaf.digest].to_parquet(buffer, index=False)
                write_sealed(leaf.path, buffer.getvalue())


def role_of(name: str, config: StudyConfig) -> TaskRole:
    if name in config.retention:
        return "retention"
    if name in config.unseen:
        return "unseen"
    if config.target is None:
        return "task"
    return "target" if name == config.target else "source"


def read_rows(config: StudyConfig, folder: Path, store_root: Path) -> tuple[StudyRows, list[Finding]]:
    """Read and split every task's rows. Nothing is written. `folder` is what paths are relative to."""
    found: list[Finding] = []
    frames: dict[str, dict[int, Frames]] = {}
    cache: dict[Path, pd.DataFrame | UsageError] = {}
    for name, task in config.tasks.items():
        frames[name], problems = _by_seed(name, task, config, folder, cache)
        found += problems
    found += check_leaks({name: list(by_seed.values()) for name, by_seed in frames.items()}, config.private)
    labels = {name: _labels(by_seed.values()) for name, by_seed in frames.items()}
    trained = {n: labels[n] for n in frames if role_of(n, config) in ("task", "target", "source") and labels[n]}
    found += check_label_sets(trained)
    shared = next(iter(trained.values()), ())
    for name, by_seed in frames.items():
        parts = next(iter(by_seed.values()))
        if shared and role_of(name, config) in ("retention", "unseen") and "test" in parts:
            found += strange_labels(parts["test"], "test", shared, f"tasks.{name}")
    tables: Frames = {}
    tasks = {}
    for name, by_seed in frames.items():
        leaves = {
            seed: {
                split: _leaf(rows, split, config.tasks[name].private, name, store_root, tables)
                for split, rows in parts.items()
            }
            for seed, parts in by_seed.items()
        }
        sizes = {split: len(rows) for split, rows in next(iter(by_seed.values())).items()}
        tasks[name] = TaskRows(name, role_of(name, config), config.tasks[name], leaves, sizes, labels[name])
    columns = {
        n: list(
            dict.fromkeys(str(c) for f in (t.data, *t.files.values()) if f for c in _columns(cache.get(folder / f)))
        )
        for n, t in config.tasks.items()
    }
    return StudyRows(tasks, shared, tables), without_values([*undeclared_labels(config), *found], config.tasks, columns)


def _columns(table: pd.DataFrame | UsageError | None) -> Iterable[object]:
    return table.columns if isinstance(table, pd.DataFrame) else ()


def _by_seed(
    name: str, task: TaskConfig, config: StudyConfig, folder: Path, cache: dict[Path, pd.DataFrame | UsageError]
) -> tuple[dict[int, Frames], list[Finding]]:
    """The splits of a task for every seed (none where its rows can't be used), and what is wrong with them."""
    role = role_of(name, config)
    out: dict[int, Frames] = {seed: {} for seed in config.seed_list}
    if role == "source" and config.pool and config.target in config.tasks:
        return out, []
    given, found = _read(name, task, folder, cache)
    if any(f.severity == "error" for f in found):
        return out, found
    sizes = {str(split): size for split, size in task.splits.items()}
    for seed in config.seed_list:
        try:
            out[seed] = make_splits(given["data"], sizes, seed, name) if task.data else given
        except UsageError as e:
            return out, [*found, error("bad-data", str(e), f"tasks.{name}.splits")]
        # What is wrong for one seed is mostly wrong for all, with other counts: the first is enough.
        known = {(f.code, f.where) for f in found}
        problems = [*_missing(name, role, task, out[seed]), *check_splits(out[seed], f"tasks.{name}")]
        found += [f for f in problems if (f.code, f.where) not in known]
    return out, found


def _read(
    name: str, task: TaskConfig, folder: Path, cache: dict[Path, pd.DataFrame | UsageError]
) -> tuple[Frames, list[Finding]]:
    """The rows of every table of a task (by split, or "data"), and what is wrong with them. Files are read once."""
    columns = Columns(
        task.text, task.label, task.unit, task.weight, task.labels, {k: str(v) for k, v in task.where.items()}
    )
    given = {"data": task.data} if task.data else task.files
    found: list[Finding] = []
    rows: Frames = {}
    for split, file in given.items():
        path, where = folder / str(file), f"tasks.{name} ({file})"
        if path not in cache:
            try:
                cache[path] = read_table(path)
            except UsageError as e:
                cache[path] = e
        table = cache[path]
        if isinstance(table, UsageError):
            found.append(error("bad-data", str(table), f"tasks.{name}"))
            continue
        rows[split], problems = rows_of(table, columns, where, f"name it: `{{role}}: COLUMN` in tasks.{name}")
        found += problems
    return rows, found


def _missing(name: str, role: TaskRole, task: TaskConfig, parts: Frames) -> list[Finding]:
    """Splits that the task's role needs and that aren't there."""
    found = []
    for split in NEEDS[role]:
        if split not in parts:
            key = "splits" if task.data else "files"
            text = f"{role} {name!r} needs {split} rows"
            found.append(error("missing-split", text, f"tasks.{name}.{key}", f"add `{split}:`"))
        elif parts[split].empty:
            found.append(error("empty-split", f"the {split} split has no rows", f"tasks.{name}"))
    return found


def _labels(by_seed: Iterable[Frames]) -> tuple[str, ...]:
    """Every label that occurs, in whatever split and for whatever seed, sorted."""
    return tuple(sorted({label for parts in by_seed for rows in parts.values() for label in rows["label"].unique()}))


def _leaf(rows: pd.DataFrame, split: str, private: bool, task: str, store_root: Path, tables: Frames) -> Leaf:
    table = rows[ROW_COLUMNS].reset_index(drop=True)
    digest = digest_json({c: table[c].tolist() for c in ROW_COLUMNS})
    tables[digest] = table
    path = store_root / "rows" / f"{digest}.parquet"
    role: Role = "test" if split == "test" else "rows"
    return Leaf(digest, path, role, f"{task} {split}", task if private else "")
