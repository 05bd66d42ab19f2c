"""The steps "search" and "choose" of the graph: write choice.json, which a merge takes its parameters from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.merge.operation import prepare as load_kernels
from tunemerge.merge.operation import uses as methods_of
from tunemerge.search.coefficients import choose
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import code_of_task

FILE = "choice.json"


def prepare(params: Mapping[str, Any]) -> None:
    """A search both merges and runs models."""
    hub.prepare(params)
    load_kernels(params)


def uses(params: Mapping[str, Any]) -> dict[str, str | int]:
    """For the key: what merges, what runs the models, and what scores them."""
    return {**methods_of(params), **code_of_task(params), **METRICS.code(params["metric"])}


@operation("search", version=2, environment=environment, prepare=prepare, uses=uses)
def search(job: Job) -> Cost:
    """Inputs models, base (0 or 1), under (none, or the model that all models are adapters on), validation (splits).

    Params method, candidates, average, task (a Spec), metric, seed; optional max_length, precision as in "tune" (256
    and "auto"). With `part` it scores the candidates for a later "choose", and chooses none.
    """
    base = job.inputs.get("base", ())
    with hub.one_thread():
        choice = choose(
            job.inputs["models"],
            base[0] if base else None,
            job.inputs["validation"],
            method=job.params["method"],
            candidates=job.params["candidates"],
            task=Spec.of(job.params),
            metric=job.params["metric"],
            average=job.params["average"],
            seed=job.params["seed"],
            max_length=job.params.get("max_length", 256),
            precision=job.params.get("precision", "auto"),
            under=job.one("under") if job.inputs.get("under") else None,
            progress=job.progress,
        )
    trials = [{"parameters": dict(trial.parameters), "score": trial.score} for trial in choice.trials]
    _write(job, trials, None if job.params.get("part") else choice.chosen)
    return choice.cost


@operation("choose", version=1)
def choose_by_scores(job: Job) -> Cost:
    """Inputs scores: "search" steps with `part`, over the same candidates, each on the rows of one task.

    Chooses as one search over all their rows would: the best mean, the first of equals. Reads no rows.
    """
    parts = [json.loads((folder / FILE).read_text())["trials"] for folder in job.inputs["scores"]]
    means = [float(np.mean([trial["score"] for trial in same])) for same in zip(*parts, strict=True)]
    trials = [{"parameters": t["parameters"], "score": s} for t, s in zip(parts[0], means, strict=True)]
    _write(job, trials, means.index(max(means)))
    return Cost()


def _write(job: Job, trials: list[dict[str, Any]], chosen: int | None) -> None:
    parameters = {} if chosen is None else trials[chosen]["parameters"]
    result = {"trials": trials, "chosen": chosen, "parameters": parameters}
    (job.out / FILE).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
