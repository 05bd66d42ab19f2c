"""The step "control" of the graph: a simple model is fitted and predicts at once. Nothing of it is kept."""

from __future__ import annotations

import numpy as np

from tunemerge.evaluate.predict import FILE, write_predictions
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.stats.predictions import Predictions
from tunemerge.tasks import hub
from tunemerge.tasks.precision import packages
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, code_of_task


@operation("control", version=1, environment=lambda: packages("scikit-learn", "numpy"), uses=code_of_task)
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
