"""The step "tune" of the graph."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import code_of_task
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.keeper import Progress, Watch
from tunemerge.tune.model import Tuned, tune_model
from tunemerge.tune.schedule import evaluation_steps
from tunemerge.tune.search import optuna_version, search_tunings


def uses(params: Mapping[str, Any]) -> dict[str, str]:
    """For the key: the task's code; PEFT's version where an adapter is trained, optuna's where there is a search."""
    lora = params.get("tuning", {}).get("method") in ("lora", "dora")
    searched = {"optuna": optuna_version()} if "search" in params else {}
    return {**code_of_task(params), **({"peft": version("peft")} if lora else {}), **searched}


@operation("tune", version=2, environment=environment, prepare=hub.prepare, uses=uses)
def tune(job: Job) -> Cost:
    """Inputs model, train (splits), validation (splits, may be empty); params task (a Spec), seed, examples, tuning.

    Inputs teachers (may be missing): models that it also learns from; under (none or one): the model that the adapter
    beside `model` is on, then that adapter is trained on. With the parameter search (`TuningSearch.params()`) there are
    several such tunings, each of these examples, and the best is what comes out.
    """
    with hub.one_thread():
        tuned = _searched(job) if "search" in job.params else _tuned(job, {}, job.out, job.unfinished, "", None)
    gc.collect()  # the Trainer and what it holds, optimizer states included, refer to each other
    return tuned.cost


def _tuned(
    job: Job,
    settings: Mapping[str, Any],
    out: Path,
    unfinished: Path | None,
    identity: str,
    watch: Watch | None,
    progress: Progress | None = None,
) -> Tuned:
    """The job's tuning, with other values of some settings."""
    under = job.inputs.get("under", ())
    return tune_model(
        job.one("model"),
        out,
        job.inputs["train"],
        job.inputs.get("validation", ()),
        task=Spec.of(job.params),
        seed=job.params["seed"],
        examples=job.params["examples"],
        config=TuneConfig.model_validate({**job.params["tuning"], **settings}),
        under=under[0] if under else None,
        teachers=job.inputs.get("teachers", ()),
        progress=progress or job.progress,
        unfinished=unfinished,
        identity=identity,
        watch=watch,
    )


def _searched(job: Job) -> Tuned:
    config = TuneConfig.model_validate(job.params["tuning"])
    steps = -(-job.params["examples"] // config.batch_size)
    evaluations = len(evaluation_steps(steps, config.evaluations))
    search, seed, trial = job.params["search"], job.params["seed"], partial(_tuned, job)
    best = config.select == "best"
    return search_tunings(search, seed, evaluations, best, trial, job.out, job.unfinished, job.progress)
