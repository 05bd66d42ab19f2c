"""What a study's models would read and learn of its rows: said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tunemerge.findings import Finding
from tunemerge.graph.step import Leaf
from tunemerge.study.config import StudyConfig
from tunemerge.study.rows import StudyRows
from tunemerge.tasks.task import TASKS


def preview(config: StudyConfig, rows: StudyRows, models: Mapping[str, Leaf]) -> list[Finding]:
    """The findings of each task's kind over all rows of the first run. A sample is shown once, and none of private
    rows."""
    first = next(iter(models.values()), None)
    found: list[Finding] = []
    for name, task in rows.tasks.items():
        parts = next(iter(task.parts.values()), {})
        tables = [rows.tables[leaf.digest] for leaf in parts.values() if leaf.digest in rows.tables]
        if first is None or task.spec is None or not tables:
            continue
        lines = [rows.lines[name, run, split] for run in list(task.parts)[:1] for split in parts]
        table = pd.concat([t.set_axis(at) for t, at in zip(tables, lines, strict=True)])
        own = TASKS[task.spec.kind].preview(
            models.get("base", first).path, task.spec, table, config.tuning.max_length, f"tasks.{name}"
        )
        hidden = config.tasks[name].private or any(f.code == "supervised" for f in found)
        found += [f for f in own if f.code != "supervised" or not hidden]
    return found
