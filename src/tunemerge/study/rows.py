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
from tunemerge.graph.step import Leaf
from tunemerge.store.atomic import make_folder, write_file
from tunemerge.store.digest import digest_json
from tunemerge.study.config import StudyConfig, TaskConfig
from tunemerge.study.rows_check import check_label_sets, check_leaks, check_splits, strange_labels

TaskRole = Literal["task", "target", "source", "retention", "unseen"]
Frames = dict[str, pd.DataFrame]

NEEDS: Mapping[TaskRole, tuple[str, ...]] = {
    "task": ("adapt", "validation", "test"),
    "target": ("adapt", "validation", "test"),
    "source": ("source", "validation"),
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
                if not leaf.path.exists() or leaf.path.read_bytes() != buffer.getvalue():
                    make_folder(leaf.path.parent)
                    write_file(leaf.path, buffer.getvalue())


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
    cache: Frames = {}
    for name, task in config.tasks.items():
        frames[name] = {}
        for seed in config.seed_list:
            try:
                parts, problems = _splits(name, task, role_of(name, config), seed, folder, cache)
            except UsageError as e:
                parts, problems = {}, [error("bad-data", str(e), f"tasks.{name}")]
            found += problems
            frames[name][seed] = parts
    found += check_leaks({name: list(by_seed.values()) for name, by_seed in frames.items()})
    labels = {name: _labels(by_seed.values()) for name, by_seed in frames.items()}
    trained = {n: labels[n] for n in frames if role_of(n, config) in ("task", "target", "source") and labels[n]}
    found += check_label_sets(trained)
    shared = next(iter(trained.values()), ())
    for name, by_seed in frames.items():
        if role_of(name, config) in ("retention", "unseen"):
            for parts in by_seed.values():
                found += strange_labels(parts["test"], "test", shared, f"tasks.{name}") if "test" in parts else []
    tables: Frames = {}
    tasks = {}
    for name, by_seed in frames.items():
        leaves = {
            seed: {split: _leaf(rows, split, name, store_root, tables) for split, rows in parts.items()}
            for seed, parts in by_seed.items()
        }
        sizes = {split: len(rows) for split, rows in next(iter(by_seed.values())).items()}
        tasks[name] = TaskRows(name, role_of(name, config), config.tasks[name], leaves, sizes, labels[name])
    return StudyRows(tasks, shared, tables), list(dict.fromkeys(found))


def _splits(
    name: str, task: TaskConfig, role: TaskRole, seed: int, folder: Path, cache: Frames
) -> tuple[Frames, list[Finding]]:
    columns = Columns(
        task.text, task.label, task.unit, task.weight, task.labels, {k: str(v) for k, v in task.where.items()}
    )
    given = {"data": task.data} if task.data else task.files
    found: list[Finding] = []
    rows: Frames = {}
    for split, file in given.items():
        path = folder / str(file)
        if str(path) not in cache:
            cache[str(path)] = read_table(path)
        rows[split], problems = rows_of(cache[str(path)], columns, f"tasks.{name} ({file})")
        found += problems
    if any(f.severity == "error" for f in found):
        return {}, found
    parts = make_splits(rows["data"], {str(k): v for k, v in task.splits.items()}, seed, name) if task.data else rows
    where = f"tasks.{name}"
    for split in NEEDS[role]:
        if split not in parts:
            key = "splits" if task.data else "files"
            found.append(
                error("missing-split", f"{role} {name!r} needs {split} rows", f"{where}.{key}", f"add `{split}:`")
            )
        elif parts[split].empty:
            found.append(error("empty-split", f"the {split} split has no rows", where))
    return parts, found + check_splits(parts, where)


def _labels(by_seed: Iterable[Frames]) -> tuple[str, ...]:
    """Every label that occurs, in whatever split and for whatever seed, sorted."""
    return tuple(sorted({label for parts in by_seed for rows in parts.values() for label in rows["label"].unique()}))


def _leaf(rows: pd.DataFrame, split: str, task: str, store_root: Path, tables: Frames) -> Leaf:
    table = rows[ROW_COLUMNS].reset_index(drop=True)
    digest = digest_json({c: table[c].tolist() for c in ROW_COLUMNS})
    tables[digest] = table
    path = store_root / "rows" / f"{digest}.parquet"
    return Leaf(digest, path, "test" if split == "test" else "rows", f"{task} {split}")
