"""The rows of a study: every task's splits for every seed, as leaves of the graph, and what is wrong with them."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunemerge.data.load import content_of
from tunemerge.findings import Finding
from tunemerge.graph.step import Leaf, Role
from tunemerge.store.digest import digest_file, digest_json
from tunemerge.store.sealed import write_sealed
from tunemerge.study.complete import Cache, completed
from tunemerge.study.config import DEFAULT_KIND, StudyConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.leaks import (
    near_duplicates,
    scored_contents,
    telling_columns,
    units_on_both_sides,
    unlike_deployment,
)
from tunemerge.study.look_ahead import look_ahead
from tunemerge.study.private import undeclared, without_values
from tunemerge.study.roles import TaskRole, role_of
from tunemerge.study.rows_check import check_leaks, check_specs
from tunemerge.study.splits_check import check_splits
from tunemerge.study.splitting import split_tasks
from tunemerge.study.tables import read_tables
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS

Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class TaskRows:
    """One task: its rows by run and split. The test split is the same for all runs. `sizes` and `units` count the rows
    and units of the first run's splits."""

    name: str
    role: TaskRole
    config: TaskConfig
    parts: Mapping[int, Mapping[str, Leaf]]
    sizes: Mapping[str, int]
    spec: Spec | None
    """None where the rows can't be used."""
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRows:
    """All tasks, and the table behind every leaf (by digest), written when a run starts.

    `overlap`: with folds, the rows that a run is scored on over those that the folds leave it (n_test / n_train).
    `splitter`: the digest of the file of a splitter of one's own.
    `lines`: by task, run and split, the place of each row in the table that it is from (0 is the first). Not by digest:
    the same rows may stand at other places of another table.
    `scored`: what a model reads of every row that is tested, by task, and whether the task is private.
    """

    tasks: Mapping[str, TaskRows]
    tables: Mapping[str, pd.DataFrame]
    overlap: float = 0.0
    splitter: str | None = None
    lines: Mapping[tuple[str, int, str], np.ndarray] = field(default_factory=dict)
    scored: Mapping[str, tuple[pd.Series, bool]] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """What the study's models predict: that of its trained tasks (a stand-in where none can be read)."""
        trained = (t.spec for t in self.tasks.values() if t.spec and t.role not in ("retention", "unseen"))
        return next(trained, Spec(DEFAULT_KIND, ("a", "b")))

    @property
    def specs(self) -> list[Spec]:
        """What the heads of the study's models predict: tasks of one spec share a head."""
        trained = [t.spec for t in self.tasks.values() if t.spec and t.role not in ("retention", "unseen")]
        return [spec for i, spec in enumerate(trained) if spec not in trained[:i]] or [self.spec]

    def write(self, leaves: Iterable[Leaf]) -> None:
        """Put the tables of these leaves where steps read them, and right a file that was damaged."""
        for leaf in leaves:
            if leaf.digest in self.tables:
                buffer = io.BytesIO()
                self.tables[leaf.digest].to_parquet(buffer, index=False)
                write_sealed(leaf.path, buffer.getvalue())


def read_rows(config: StudyConfig, folder: Path, store_root: Path) -> tuple[StudyRows, list[Finding]]:
    """Read and split every task's rows. Nothing is written. `folder` is what paths are relative to."""
    cache = Cache()
    config = completed(config, folder, cache)
    given, columns, found = read_tables(config, folder, cache)
    only_trained = frozenset(n for n in config.tasks if role_of(n, config) == "source")
    splitting = split_tasks(config, given, only_trained, folder)
    found += splitting.findings
    frames = {n: splitting.parts.get(n) or {run: {} for run in config.seed_list} for n in config.tasks}
    for name in splitting.parts:
        found += check_splits(name, config, frames[name])
    contents = {name: [_contents(p, config.tasks[name]) for p in by.values()] for name, by in frames.items()}
    found += check_leaks(contents, config.private) + near_duplicates(contents, config.private)
    found += units_on_both_sides(config, given) + telling_columns(config, given)
    found += unlike_deployment(config, frames, given, folder) + look_ahead(config, frames)
    specs = {name: _spec(config.tasks[name], by_seed.values()) for name, by_seed in frames.items()}
    roles = {name: role_of(name, config) for name in frames}
    found += check_specs(specs, roles)
    for name, by_seed in frames.items():
        specs[name] = spec = _known(name, specs, roles)
        found += [] if spec is None else _kind_findings(spec, by_seed.values(), f"tasks.{name}")
    for spec in {s.kind: s for s in specs.values() if s is not None}.values():
        own = {n: list(by_seed.values()) for n, by_seed in frames.items() if specs[n] and any(by_seed.values())}
        found += TASKS[spec.kind].check_all(spec, {n: r for n, r in own.items() if config.tasks[n].kind == spec.kind})
    tables: Frames = {}
    lines: dict[tuple[str, int, str], np.ndarray] = {}
    tasks = {}
    for name, by_seed in frames.items():
        leaves: dict[int, dict[str, Leaf]] = {seed: {} for seed in by_seed}
        for seed, parts in by_seed.items():
            for split, rows in parts.items():
                leaf = leaves[seed][split] = _leaf(rows, split, config.tasks[name], name, store_root)
                tables[leaf.digest] = rows.reset_index(drop=True)
                lines[name, seed, split] = rows.index.to_numpy()
        first = next(iter(by_seed.values()))
        sizes = {split: len(rows) for split, rows in first.items()}
        units = {split: int(rows["unit"].nunique()) for split, rows in first.items()}
        tasks[name] = TaskRows(name, roles[name], config.tasks[name], leaves, sizes, specs[name], units)
    build = config.splits.build if config.splits else None
    file = folder / build.rpartition(":")[0] if build else None
    digest = digest_file(file) if file and file.is_file() else None
    found = without_values([*undeclared(config), *found], config.tasks, columns)
    scored = scored_contents(config, frames)
    return StudyRows(tasks, tables, splitting.overlap, digest, lines, scored), found


def _kind_findings(spec: Spec, by_seed: Iterable[Frames], where: str) -> list[Finding]:
    """What the kind of task finds, each fault once: what is wrong for one seed is mostly wrong for all."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for parts in by_seed:
        own: dict[tuple[str, str], list[Finding]] = {}
        for finding in TASKS[spec.kind].check(spec, parts, where):
            own.setdefault((finding.code, finding.where), []).append(finding)
        found = {**own, **found}
    return [finding for same in found.values() for finding in same]


def _spec(task: TaskConfig, by_seed: Iterable[Frames]) -> Spec | None:
    """What a task predicts, by all of its rows."""
    frames = [rows for parts in by_seed for rows in parts.values() if len(rows)]
    return TASKS[str(task.kind)].spec(task.options, frames) if frames else None


def _known(name: str, specs: Mapping[str, Spec | None], roles: Mapping[str, TaskRole]) -> Spec | None:
    """A task's own spec; one that is only evaluated is answered by a head of its kind that has its labels."""
    own = specs[name]
    if own is None or roles[name] not in ("retention", "unseen"):
        return own
    trained = [s for n, s in specs.items() if s and s.kind == own.kind and roles[n] not in ("retention", "unseen")]
    return next((s for s in trained if set(own.labels) <= set(s.labels)), trained[0] if trained else own)


def _contents(parts: Frames, task: TaskConfig) -> dict[str, pd.Series]:
    """What a model reads of each row, by split."""
    target = TASKS[str(task.kind)].target if parts else ()
    return {split: content_of(rows, target) for split, rows in parts.items()}


def _leaf(rows: pd.DataFrame, split: str, config: TaskConfig, task: str, store_root: Path) -> Leaf:
    content = {c: [_plain(v) for v in rows[c].tolist()] for c in rows.columns}
    # What one fold holds out, another may choose on: the same rows are then two leaves.
    digest = digest_json({**content, "split": split} if split == "held_out" else content)
    path = store_root / "rows" / f"{digest}.parquet"
    role: Role = "test" if split in ("test", "held_out") else "rows"
    return Leaf(digest, path, role, f"{task} {split}", task if config.private else "")


def _plain(value: Any) -> Any:
    """A cell as JSON: bytes by their digest, missing numbers as null, arrays as lists."""
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, np.ndarray | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
