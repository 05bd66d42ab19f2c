"""From the rows of all tasks to the splits of every run: by seed, by fold, by time, or by a person's own splitter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tunemerge.data.calendar import TEST, Known, Times, by_window, parse_span, parse_times, windows
from tunemerge.data.load import content_of
from tunemerge.data.split import VALIDATION, fold_of, frozen_rows, inner_splits, make_splits, strata_of
from tunemerge.data.splitter import Fold, built_folds, load_function
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, warning
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_splits import Run, SplitsConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.tasks.task import TASKS

Frames = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class TaskTables:
    """The rows of each of a task's tables (by split, or "data"), and the tables as they were read."""

    rows: Frames
    raw: Frames


@dataclass(frozen=True)
class Splitting:
    """`parts`: the splits by task and run. `left` are the rows that the folds leave a run, `held` those that it is
    scored on, of all tasks with folds and all runs (for n_test / n_train)."""

    parts: dict[str, dict[int, Frames]]
    findings: list[Finding] = field(default_factory=list)
    left: int = 0
    held: int = 0

    @property
    def overlap(self) -> float:
        return self.held / self.left if self.left else 0.0


def split_tasks(
    config: StudyConfig, tables: Mapping[str, TaskTables], only_trained: frozenset[str], folder: Path
) -> Splitting:
    """The splits of every task whose tables are there, for every run, and what is wrong.

    `only_trained` are tasks of which nothing is scored (they give models of the pool): they have no folds.
    """
    if config.splits and config.splits.by == "time":
        return _by_time(config, config.splits, tables)
    parts: dict[str, dict[int, Frames]] = {}
    found: list[Finding] = []
    left = held = 0
    for name, task in config.tasks.items():
        if name not in tables:
            continue
        scored = name not in only_trained and not {name} & {*config.retention, *config.unseen}
        where = f"tasks.{name}" if task.splits or not config.splits else "splits"
        try:
            parts[name], rest = _of_task(name, task, tables[name], config, folder, scored)
        except UsageError as e:
            found.append(error("bad-data", str(e), where + (".splits" if task.splits else "")))
            continue
        held += sum(len(own.get("held_out", ())) for own in parts[name].values())
        left += rest
    return Splitting(parts, found, left, held)


def _of_task(
    name: str, task: TaskConfig, tables: TaskTables, config: StudyConfig, folder: Path, scored: bool
) -> tuple[dict[int, Frames], int]:
    """A task's splits by run, and how many rows its folds leave all runs together."""
    splits, runs = config.splits, config.runs
    sizes = {str(k): v for k, v in task.splits.items()} or _defaults(splits, task)
    if splits is None or splits.folds is None or not scored:
        if not task.data:
            return dict.fromkeys(runs, tables.rows), 0
        if not sizes:
            raise UsageError(f"{name}: `data` needs `splits`, for example {{adapt: 0.2, validation: 0.2, test: 0.3}}")
        rows = tables.rows["data"]
        return {run: _leftover(make_splits(rows, sizes, run, name), sizes, rows, splits) for run in runs}, 0
    return _folded(name, task, tables, config, sizes, folder)


def _defaults(splits: SplitsConfig | None, task: TaskConfig) -> dict[str, float]:
    """The study's sizes, for a task that has none of its own."""
    if splits is None or not task.data:
        return {}
    if splits.folds:
        return splits.sizes
    return {"test": TEST, "validation": VALIDATION, **splits.sizes}


def _leftover(parts: Frames, sizes: Mapping[str, float], rows: pd.DataFrame, splits: SplitsConfig | None) -> Frames:
    """Adapt takes what is left where the study's `splits` rule and say nothing of it."""
    if splits is None or "adapt" in sizes or ("source" in sizes and set(sizes) <= {"source", "validation"}):
        return parts
    taken = rows.index.isin([i for part in parts.values() for i in part.index])
    return {**parts, "adapt": rows[~taken]}


def _folded(
    name: str, task: TaskConfig, tables: TaskTables, config: StudyConfig, sizes: Mapping[str, float], folder: Path
) -> tuple[dict[int, Frames], int]:
    """Each run's held-out fold, its other splits out of what that fold leaves, and how many rows that is in all."""
    assert config.splits is not None and config.folds is not None
    kept: Frames = {}
    raw = None
    if task.data:
        rows, raw = tables.rows["data"], tables.raw["data"]
        test, rest = frozen_rows(rows, sizes.get("test"), name)
        kept = {} if test is None else {"test": test}
    else:
        rest = _pooled(task, tables)
        kept = {split: part for split, part in tables.rows.items() if split in ("test", "source")}
        sizes = {k: v for k, v in sizes.items() if k != "source"}
        rows = rest
    out: dict[int, Frames] = {}
    folds, left = config.folds, 0
    dealt: dict[int, list[Fold]] = {}
    for number, run in config.runs.items():
        if run.seed not in dealt:
            dealt[run.seed] = _deal(name, rest, raw, config, run, folder)
        train, held_out = dealt[run.seed][run.fold or 0]
        left += len(train)
        inner = inner_splits(rest.iloc[np.sort(train)], sizes, len(rows), f"{folds}/{run.seed}/{run.fold}", name)
        out[number] = {**kept, **inner, "held_out": rest.iloc[np.sort(held_out)]}
    return out, left


def _deal(
    name: str, rest: pd.DataFrame, raw: pd.DataFrame | None, config: StudyConfig, run: Run, folder: Path
) -> list[Fold]:
    """(positions left to train on, positions held out) of every fold of one repetition."""
    assert config.splits is not None and config.folds is not None
    if config.splits.build:
        table = rest if raw is None else raw.loc[rest.index]
        make = load_function(config.splits.build, folder)
        return built_folds(make, table, strata_of(rest), rest["unit"], config.folds, run.seed, name)
    home = fold_of(rest, config.folds, run.seed, name)
    return [(np.flatnonzero(home != fold), np.flatnonzero(home == fold)) for fold in range(config.folds)]


def _pooled(task: TaskConfig, tables: TaskTables) -> pd.DataFrame:
    """The adapt and validation files of a task as one table; the same text is one unit where the task names none."""
    parts = [tables.rows[s].assign(file=s) for s in ("adapt", "validation") if s in tables.rows]
    if not parts:
        raise UsageError("folds need adapt rows: give `data`, or a file of adapt rows")
    rows = pd.concat(parts, ignore_index=True)
    if task.unit is None:
        target = (*TASKS[str(task.kind)].target, "file")
        rows["unit"] = rows.groupby(content_of(rows, target)).ngroup().astype(str)
    return rows


def _by_time(config: StudyConfig, splits: SplitsConfig, tables: Mapping[str, TaskTables]) -> Splitting:
    """One calendar cut for all tasks, each run's for its fold."""
    found, times = _times(config, splits, tables)
    if found or not times:
        return Splitting({}, found)
    numeric = all(number for _, number in times.values())
    try:
        horizon, embargo = (parse_span(getattr(splits, k), numeric, f"splits.{k}") for k in ("horizon", "embargo"))
    except UsageError as e:
        return Splitting({}, [error("bad-value", str(e), "splits")])
    known = {
        name: Known(tables[name].rows["data"]["known"].to_numpy(np.float64), embargo)
        for name in times
        if TASKS[str(config.tasks[name].kind)].timed
    }
    # Windows end before the next begins by what most answers take (one that is known just then is in time); rows whose
    # answers take longer are left out one by one.
    spans = (float(np.median(k.times - times[name][0])) for name, k in known.items())
    horizon = max([horizon, *(span * (1 - 1e-9) for span in spans)])
    parts: dict[str, dict[int, Frames]] = {name: {} for name in times}
    dropped: dict[tuple[str, str], int] = {}
    left = held = 0
    for number, run in config.runs.items():
        cut = windows([t for t, _ in times.values()], splits.sizes, splits.folds, run.fold, horizon + embargo)
        for name, (own, _) in times.items():
            parts[name][number], lost = by_window(tables[name].rows["data"], own, cut, known.get(name))
            for split, count in lost.items():
                dropped[name, split] = max(count, dropped.get((name, split), 0))
            scored = parts[name][number].get("held_out", ())
            held += len(scored)
            left += int((own < cut["held_out"].start).sum()) if "held_out" in cut else 0
    for (name, split), count in dropped.items():
        text = f"up to {count} {split} rows of {name} belong to units that are tested or chosen on later: left out"
        fix = "a unit is never on both sides; where the same persons return, split without `by: time`"
        found.append(warning("units-dropped", text, f"tasks.{name}", fix))
    return Splitting(parts, found, left, held)


def _times(
    config: StudyConfig, splits: SplitsConfig, tables: Mapping[str, TaskTables]
) -> tuple[list[Finding], dict[str, tuple[Times, bool]]]:
    """The time of every row, by task, and what is wrong."""
    found: list[Finding] = []
    times: dict[str, tuple[Times, bool]] = {}
    column = splits.column or ""
    for name, own in tables.items():
        task, where = config.tasks[name], f"tasks.{name}"
        if task.files or task.splits:
            what = "files" if task.files else "splits"
            text = f"with `by: time` one calendar cut holds for all tasks: {name} can't have `{what}` of its own"
            found.append(error("own-splits", text, f"{where}.{what}", "give `data`, and sizes in the study's `splits`"))
            continue
        raw, rows = own.raw["data"], own.rows["data"]
        if column not in raw.columns:
            known = ", ".join(map(str, raw.columns))
            text = f"no column {column!r} (for splits.column); the columns are: {known}"
            found.append(error("no-such-column", text, f"{where} ({task.tables['data']})"))
            continue
        if TASKS[str(task.kind)].timed and task.options.time != column:
            text = f"splits.column is {column!r}, {name} reads its times from {task.options.time!r}"
            found.append(error("other-time", text, "splits.column", f"say `column: {task.options.time}`"))
            continue
        try:
            times[name] = parse_times(raw.loc[rows.index, column], f"{where} ({task.tables['data']})")
        except UsageError as e:
            found.append(error("bad-date", str(e), where))
    if len({numeric for _, numeric in times.values()}) > 1:
        text = f"{column!r} holds dates in some tasks and numbers in others: no calendar cut can hold for both"
        found.append(error("bad-date", text, "splits.column"))
    return found, times
