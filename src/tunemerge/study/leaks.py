"""What would flatter a result: test rows that something was trained on, units on both sides, telling columns; and adapt
rows that are unlike those of deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tunemerge.data.load import content_of, read_table, table_path
from tunemerge.data.seen import normalised, read_seen, row_hashes
from tunemerge.data.telling import column_auroc, difference, is_id
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, note, warning
from tunemerge.graph.step import Leaf
from tunemerge.registry import listed
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.rows_check import TRAINED
from tunemerge.study.splitting import TaskTables
from tunemerge.tasks.task import TASKS

Frames = Mapping[str, pd.DataFrame]

# More of the test rows than this among what a model has seen is no accident.
_SAME_ROWS = 0.2
# A single column that ranks labels so well gives them away; an id should not rank them at all.
_TELLING, _TELLING_ID = 0.99, 0.75
# Rows of deployment that can be told apart so well are other rows.
_UNLIKE = 0.6
_QUOTED = 60


def near_duplicates(tasks: Mapping[str, Sequence[Mapping[str, pd.Series]]], private: Sequence[str]) -> list[Finding]:
    """Scored rows that differ from rows of training or choice only in case and spaces. `tasks` has what a model reads
    of each row, by run and split."""
    plain = {n: [{s: normalised(c) for s, c in parts.items()} for parts in runs] for n, runs in tasks.items()}
    found = []
    for tested, runs in plain.items():
        for name in plain:
            if name != tested and {name, tested} <= set(private):
                continue
            for split in (*TRAINED, "validation"):
                seen: dict[int, str] = {}
                for number, parts in enumerate(runs):
                    other = plain[name][number].get(split)
                    exact = tasks[name][number].get(split)
                    if other is None or exact is None:
                        continue
                    for scored in ("test", "held_out"):
                        if scored in parts:
                            near = parts[scored].isin(set(other)) & ~tasks[tested][number][scored].isin(set(exact))
                            seen |= {i: tasks[tested][number][scored][i] for i in near.index[near]}
                if seen:
                    line, text = next(iter(seen.items()))
                    quoted = f" ({text[:_QUOTED]!r})" if not {name, tested} & set(private) else ""
                    said = (
                        f"{len(seen)} tested rows of {tested} stand among the {split} rows of {name} but for case and "
                        f"spaces, first data row {line + 1}{quoted}"
                    )
                    found.append(warning("test-nearly-seen", said, f"tasks.{tested}", "delete them from one side"))
    return found


def units_on_both_sides(config: StudyConfig, given: Mapping[str, TaskTables]) -> list[Finding]:
    """Given files in which a unit is both trained or chosen on and tested, or both trained and chosen on."""
    found = []
    for name, tables in given.items():
        task = config.tasks[name]
        if not task.files or task.unit is None or TASKS[str(task.kind)].timed:
            continue
        sides = {split: rows["unit"] for split, rows in tables.rows.items()}
        for later, earlier in (("test", "validation"), *((s, t) for s in ("test", "validation") for t in TRAINED)):
            if later in sides and earlier in sides and (both := set(sides[later]) & set(sides[earlier])):
                rows = sides[later].index[sides[later].isin(both)]
                text = (
                    f"{len(both)} units ({task.unit}) are in both {task.files[later]} and {task.files[earlier]}, "  # type: ignore[index]
                    f"first {sides[later][rows[0]]!r} in data row {rows[0] + 1} of {task.files[later]}"  # type: ignore[index]
                )
                fix = "keep every unit on one side, or give `data` and let the study split it"
                found.append(error("unit-both-sides", text, f"tasks.{name}.files", fix))
    return found


def telling_columns(config: StudyConfig, given: Mapping[str, TaskTables]) -> list[Finding]:
    """Columns that alone give the label away. Of those that the task does not read, it is only said."""
    found = []
    for name, tables in given.items():
        task = config.tasks[name]
        kind = TASKS[str(task.kind)]
        columns = dict(kind.source(task.options).columns)
        answer = {column for role, column in columns.items() if role in (*kind.target, *kind.opaque)}
        apart = {
            *answer,
            *(columns[role] for role in kind.opaque),
            task.unit,
            task.weight,
            *task.where,
            config.splits.column if config.splits else None,
        }
        split, raw = next(((s, t) for s, t in tables.raw.items() if s in ("data", "adapt", "source")), (None, None))
        if split is None or raw is None:
            continue
        rows = tables.rows[split]
        labels = _classes(rows)
        if labels is None or labels.nunique() < 2 or len(rows) < 50:
            continue
        for column in (str(c) for c in raw.columns if str(c) not in apart):
            values = raw.loc[rows.index, column]
            try:
                area = column_auroc(values, labels, rows["unit"])
            except (TypeError, ValueError):  # cells that are no single values
                continue
            id_like = is_id(values)
            if area < (_TELLING_ID if id_like else _TELLING):
                continue
            what = "numbers its rows, and" if id_like else "alone"
            read = column in columns.values()
            told = f"column {column!r} {what} ranks the labels with AUROC {area:.3f} on rows held out"
            told += "" if read else "; this task does not read it"
            code = "id-predicts-label" if id_like else "leaky-column"
            fix = (
                "shuffle the table, and ask how labels came to follow the order of rows" if id_like
                else "leave it out if it is known only after the label"
            )  # fmt: skip
            found.append((warning if read else note)(code, told, f"tasks.{name}", fix))
    return found


def _classes(rows: pd.DataFrame) -> pd.Series | None:
    """Labels; of values, whether they lie above the median."""
    if "label" in rows:
        return rows["label"].astype(str)
    return (rows["value"] > rows["value"].median()).astype(str) if "value" in rows else None


def unlike_deployment(
    config: StudyConfig, frames: Mapping[str, Mapping[int, Frames]], given: Mapping[str, TaskTables], folder: Path
) -> list[Finding]:
    """How well the adapt rows of a task can be told from its rows of deployment."""
    found = []
    for name, task in config.tasks.items():
        parts = next(iter(frames[name].values()), {})
        if not task.deployment or name not in given or "adapt" not in parts:
            continue
        where = f"tasks.{name}.deployment"
        inputs = _inputs(task)
        if not inputs:
            found.append(note("deployment", "can't be compared with the adapt rows: no column of values", where))
            continue
        try:
            table = TASKS[str(task.kind)].unfold(read_table(table_path(folder, task.deployment)), task.options)
        except UsageError as e:
            found.append(error("bad-data", str(e), where))
            continue
        missing = [c for c in inputs if c not in table.columns]
        if missing:
            text = f"{task.deployment} has no column {missing[0]!r}; the columns are: {listed(table.columns, 20)}"
            found.append(error("no-such-column", text, where))
            continue
        split = "data" if task.data else "adapt"
        adapt = given[name].raw[split].loc[parts["adapt"].index, inputs]
        try:
            seen = difference(adapt, table[inputs])
        except ValueError as e:
            found.append(note("deployment", f"can't be compared with the adapt rows: {e}", where))
            continue
        area = f"AUROC {seen.auroc:.2f} ± {1.96 * seen.error:.2f}, rows held out"
        if seen.auroc - 1.96 * seen.error <= _UNLIKE:
            found.append(note("deployment", f"adapt rows and {task.deployment} look alike ({area})", where))
            continue
        text = (
            f"adapt rows can be told from {task.deployment} ({area}): there {listed(map(repr, seen.second))}, "
            f"here {listed(map(repr, seen.first))}"
        )
        fix = "adapt and test on rows like those of deployment, or expect other scores there"
        found.append(warning("unlike-deployment", text, where, fix))
    return found


def _inputs(task: TaskConfig) -> list[str]:
    kind = TASKS[str(task.kind)]
    return [c for role, c in kind.source(task.options).columns.items() if role not in (*kind.target, *kind.opaque)]


def seen_by_models(
    models: Mapping[str, Leaf], tests: Mapping[str, tuple[pd.Series, bool]], key_of: Mapping[str, str]
) -> list[Finding]:
    """Scored rows that a given model was made with, by the record in its folder. `tests`: what a model reads of each
    scored row, by task, and whether the task is private; `key_of`: the study's key of each model."""
    found = []
    hashes = {task: np.array(row_hashes(content)) for task, (content, _) in tests.items()}
    for name, leaf in models.items():
        try:
            seen = read_seen(leaf.path)
        except UsageError as e:
            found.append(error("bad-record", str(e), key_of[name]))
            continue
        for task, own in hashes.items() if seen else ():
            hit = np.flatnonzero([h in seen for h in own])  # type: ignore[operator]
            if not len(hit):
                continue
            content, private = tests[task]
            quoted = "" if private else f" ({str(content.iloc[hit[0]])[:_QUOTED]!r})"
            text = (
                f"was tuned or chosen on {len(hit)} of the {len(own)} tested rows of {task}, by its record of rows; "
                f"first data row {content.index[hit[0]] + 1}{quoted}"
            )
            make = error if len(hit) > _SAME_ROWS * len(own) else warning
            found.append(make("model-saw-test", text, key_of[name], "test on other rows, or leave this model out"))
    return found


def scored_contents(
    config: StudyConfig, frames: Mapping[str, Mapping[int, Frames]]
) -> dict[str, tuple[pd.Series, bool]]:
    """What a model reads of every scored row, by task, each row once; and whether the task is private."""
    out = {}
    for name, runs in frames.items():
        target = TASKS[str(config.tasks[name].kind)].target if any(runs.values()) else ()
        parts = []
        for split in ("test", "held_out"):
            own = [content_of(p[split], target) for p in runs.values() if split in p and len(p[split])]
            if own:
                whole = pd.concat(own)
                parts.append(whole[~whole.index.duplicated()])
        if parts:
            out[name] = (pd.concat(parts), config.tasks[name].private)
    return out
