"""The step "tune" of the graph."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import code_of_task
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model


def uses(params: Mapping[str, Any]) -> dict[str, str]:
    """For the key: the task's code, and PEFT's version where an adapter is trained."""
    lora = params.get("tuning", {}).get("method") in ("lora", "dora")
    return {**code_of_task(params), **({"peft": version("peft")} if lora else {})}


@operation("tune", version=2, environment=environment, prepare=hub.prepare, uses=uses)
def tune(job: Job) -> Cost:
    """Inputs model, train (splits), validation (splits, may be empty); params task (a Spec), seed, examples, tuning.

    Inputs teachers (may be missing): models that it also learns from; under (none or one): the model that the adapter
    beside `model` is on, then that adapter is trained on.
    """
    under = job.inputs.get("under", ())
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
            under=under[0] if under else None,
            teachers=job.inputs.get("teachers", ()),
            progress=job.progress,
            unfinished=job.unfinished,
        )
    gc.collect()  # the Trainer and what it holds, optimizer states included, refer to each other
    return tuned.cost
