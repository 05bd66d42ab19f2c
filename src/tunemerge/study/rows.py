"""The rows of a study: every task's splits for every seed, as leaves of the graph, and what is wrong with them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from tunemerge.data.load import ROW_COLUMNS, Columns, duplicates_across, read_table, rows_of
from tunemerge.data.split import make_splits
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.graph.step import Leaf
from tunemerge.store.atomic import make_folder, write_file
from tunemerge.store.digest import digest_json
from tunemerge.study.config import StudyConfig, TaskConfig

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
        for leaf in leaves:
            if leaf.digest in self.tables and not leaf.path.exists():
                buffer = io.BytesIO()
                self.tables[leaf.digest].to_parquet(buffer, index=False)
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
    tables: Frames = {}
    tasks = {}
    cache: Frames = {}
    for name, task in config.tasks.items():
        role = role_of(name, config)
        by_seed = {}
        for seed in config.seed_list:
            try:
                parts, problems = _splits(name, task, role, seed, folder, cache)
            except UsageError as e:
                parts, problems = {}, [error("bad-data", str(e), f"tasks.{name}")]
            found += problems
            by_seed[seed] = parts
        if any(f.severity == "error" and f.where.startswith(f"tasks.{name}") for f in found):
            continue
        leaves = {
            seed: {split: _leaf(rows, split, name, store_root, tables) for split, rows in parts.items()}
            for seed, parts in by_seed.items()
        }
        first = next(iter(by_seed.values()))
        sizes = {split: len(rows) for split, rows in first.items()}
        tasks[name] = TaskRows(name, role, task, leaves, sizes, _labels(first, role))
    found += _label_sets(tasks)
    labels = next((t.labels for t in tasks.values() if t.role in ("task", "target")), ())
    return StudyRows(tasks, labels, tables), list(dict.fromkeys(found))


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
    found += _check_labels(parts, where) + duplicates_across(parts, where)
    return parts, found


def _check_labels(parts: Frames, where: str) -> list[Finding]:
    found = []
    training = {s: set(rows["label"]) for s, rows in parts.items() if s in ("source", "adapt")}
    for split, labels in training.items():
        if len(labels) == 1:
            found.append(error("one-class", f"all {split} rows have the label {labels.pop()!r}", where))
    known = set().union(*training.values()) if training else None
    for split in ("validation", "test"):
        if known and split in parts:
            strange = parts[split][~parts[split]["label"].isin(known)]
            if len(strange):
                row = strange.iloc[0]
                found.append(
                    error(
                        "label-not-in-training",
                        f"{len(strange)} {split} rows have labels that training lacks, first {row['label']!r} in line "
                        f"{int(strange.index[0]) + 2}; training has {sorted(known)}",
                        where,
                        "map the label with `labels:` or delete the rows",
                    )
                )
    return found


def _labels(parts: Frames, role: TaskRole) -> tuple[str, ...]:
    return tuple(sorted(set().union(*(set(rows["label"]) for rows in parts.values()))))


def _label_sets(tasks: Mapping[str, TaskRows]) -> list[Finding]:
    trained = [t for t in tasks.values() if t.role in ("task", "target", "source")]
    if len({t.labels for t in trained}) <= 1:
        return []
    sets = "; ".join(f"{t.name}: {list(t.labels)[:6]}" for t in trained)
    return [
        error("label-sets-differ", f"tasks of a study share one label set, these don't: {sets}", "tasks",
              "rename labels with `labels: {raw: name}` in each task")
    ]  # fmt: skip


def _leaf(rows: pd.DataFrame, split: str, task: str, store_root: Path, tables: Frames) -> Leaf:
    table = rows[ROW_COLUMNS].reset_index(drop=True)
    digest = digest_json({c: table[c].tolist() for c in ROW_COLUMNS})
    tables[digest] = table
    path = store_root / "rows" / f"{digest}.parquet"
    return Leaf(digest, path, "test" if split == "test" else "rows", f"{task} {split}")
