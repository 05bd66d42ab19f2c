"""The step "tune" of the graph."""

from __future__ import annotations

import gc

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import code_of_task
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model


@operation("tune", version=2, environment=environment, prepare=hub.prepare, uses=code_of_task)
def tune(job: Job) -> Cost:
    """Inputs model, train (splits), validation (splits, may be empty); params task (a Spec), seed, examples, tuning."""
    with hub.one_thread():
        tuned = tune_model(
            job.one("model"),
            job.out,
            job.inputs["train"],
            job.inputs.get("validation", ()),
            task=Spec.of(job.params),
            seed=job.params["seed"],
            examples=job.params["examples"],
            config=TuneConfig.model_validate(job.params["tuning"]),
            progress=job.progress,
        )
    gc.collect()  # the Trainer and what it holds, optimizer states included, refer to each other
    return tuned.cost
