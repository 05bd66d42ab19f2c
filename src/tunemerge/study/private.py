"""What may be said of private rows: names of columns, counts, and the label names that the study file declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tunemerge.findings import Finding, error
from tunemerge.graph.private import without_quoted, words
from tunemerge.registry import listed
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_task import TaskConfig


def undeclared(config: StudyConfig) -> list[Finding]:
    """Private tasks whose labels or categories are not declared: a stray value would become one, and be shown."""
    fix = "declare them, raw value to label name: `labels: {negative: negative, positive: positive}`"
    found = [
        error(
            "private-labels",
            "a private task needs its `labels:`, or any stray value becomes a class",
            f"tasks.{n}",
            fix,
        )
        for n in config.private
        if getattr(config.tasks[n].options, "labels", None) == {}
    ]
    for name in config.private:
        open_columns = [c for c, v in getattr(config.tasks[name].options, "categorical", {}).items() if not v]
        if open_columns:
            text = f"the categories of {listed(map(repr, open_columns), 8)} are not declared: a model would keep them"
            fix = f"`categorical: {{{open_columns[0]}: [FIRST, SECOND]}}`, or `ignore` the column"
            found.append(error("private-categories", text, f"tasks.{name}", fix))
    return found


def without_values(
    findings: Iterable[Finding], tasks: Mapping[str, TaskConfig], columns: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """The same findings; those about a private task quote no value of its rows. `columns`: its tables' columns."""
    out = []
    for finding in findings:
        name = next((n for n, t in tasks.items() if t.private and _about(finding, n)), None)
        if name is None:
            out.append(finding)
            continue
        task, found = tasks[name], columns.get(name, ())
        own = set(words(task.options.model_dump())) if task.options is not None else set()
        said = {name, *tasks, *own, *task.files, *map(str, task.files.values())}
        said |= {str(v) for k in ("data", "unit", "weight") if (v := getattr(task, k))}
        said |= {"validation", "adapt", "source", "test"}
        # A table without a header has a row of values where its columns' names should be.
        said |= {c for c in found if c in (*own, task.unit, task.weight, *task.where)}
        message = re.sub(r"the columns are: .*", f"the table has {len(found)} columns", finding.message)
        message = re.sub(r"; known: .*", "", message)
        message = re.sub(r"(can't be read as \w+): .*", r"\1", message, flags=re.DOTALL)
        out.append(replace(finding, message=without_quoted(message, said)))
    return out


def _about(finding: Finding, task: str) -> bool:
    return re.match(rf"tasks\.{re.escape(task)}(?![A-Za-z0-9_-])", finding.where) is not None


def numbered(units: NDArray[np.object_] | NDArray[np.str_]) -> NDArray[np.object_]:
    """Units of private rows by their number of appearance, which says nothing of them but which rows share one."""
    known: dict[object, str] = {}
    return np.array([known.setdefault(u, f"unit {len(known) + 1}") for u in units], object)
