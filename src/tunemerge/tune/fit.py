"""The steps "summarise" and "fit" of the graph: what is fitted to training rows before any model, once for all models.

Each task's rows are summed up by a step of its own, so that no step reads the rows of two tasks.
"""

from __future__ import annotations

import json

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks.fitted import write_fitted
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, code_of_task

_SUMMARY = "summary.json"


@operation("summarise", version=1, uses=code_of_task)
def summarise(job: Job) -> Cost:
    """Input rows (training splits of one task); params task (a Spec)."""
    task = Spec.of(job.params)
    kind = TASKS[task.kind]
    summary = kind.summarise(kind.read(job.inputs["rows"], task), task)
    (job.out / _SUMMARY).write_text(json.dumps(summary, allow_nan=False))
    return Cost()


@operation("fit", version=1, uses=code_of_task)
def fit(job: Job) -> Cost:
    """Input summaries, one a task; params task (a Spec)."""
    task = Spec.of(job.params)
    summaries = [json.loads((folder / _SUMMARY).read_text()) for folder in job.inputs["summaries"]]
    write_fitted(job.out, TASKS[task.kind].fit(summaries, task))
    return Cost()
