"""The step "search" of the graph: writes choice.json, which a merge takes its parameters from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.merge.operation import prepare as load_kernels
from tunemerge.merge.operation import uses
from tunemerge.search.coefficients import choose
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment

FILE = "choice.json"


def prepare(params: Mapping[str, Any]) -> None:
    """A search both merges and runs models."""
    hub.prepare(params)
    load_kernels(params)


@operation("search", version=1, environment=environment, prepare=prepare, uses=uses)
def search(job: Job) -> Cost:
    """Inputs models, base (0 or 1), validation (splits); params method, candidates, average, task, labels, metric,
    seed; optional average_missing as in "merge" and max_length, precision as in "tune" (256 and "auto")."""
    base = job.inputs.get("base", ())
    with hub.one_thread():
        choice = choose(
            job.inputs["models"],
            base[0] if base else None,
            job.inputs["validation"],
            method=job.params["method"],
            candidates=job.params["candidates"],
            labels=job.params["labels"],
            metric=job.params["metric"],
            average=job.params["average"],
            average_missing=job.params.get("average_missing", False),
            seed=job.params["seed"],
            max_length=job.params.get("max_length", 256),
            precision=job.params.get("precision", "auto"),
            task=job.params["task"],
            progress=job.progress,
        )
    result = {
        "trials": [{"parameters": dict(trial.parameters), "score": trial.score} for trial in choice.trials],
        "chosen": choice.chosen,
        "parameters": dict(choice.trials[choice.chosen].parameters),
    }
    (job.out / FILE).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return choice.cost
