"""The step "control" of the graph: a simple model is fitted and predicts at once. Nothing of it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunemerge.evaluate.predict import FILE, write_predictions
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.stats.predictions import Predictions
from tunemerge.tasks import hub
from tunemerge.tasks.precision import packages
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, code_of_task


def _uses(params: Mapping[str, Any]) -> dict[str, str]:
    """The code of the task, and the version of the package that only this simple model needs."""
    package = TASKS[params["task"]["kind"]].controls[params["control"]].package
    return code_of_task(params) | (packages(package) if package else {})


@operation("control", version=1, environment=lambda: packages("scikit-learn", "numpy"), uses=_uses)
def control(job: Job) -> Cost:
    """Inputs train, rows; params task (a Spec), control (one of the kind's), seed. `final`: see the step "predict"."""
    task = Spec.of(job.params)
    kind = TASKS[task.kind]
    rows = kind.read(job.inputs["rows"], task)
    with hub.one_thread():
        outputs = kind.controls[job.params["control"]].run(
            task, kind.read(job.inputs["train"], task), rows, job.params["seed"]
        )
    found = Predictions(np.array(rows.unit, object), rows.target, outputs, rows.weight)
    write_predictions(found, job.out / FILE)
    return Cost()
