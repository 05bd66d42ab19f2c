"""The step "merge": models and a base in, one model folder out.

Inputs: "models" in order, "base" (none or one), "choice" (none, or the folder of a search whose parameters win).
Params: "method", "parameters", "average" (parts of names of tensors that are averaged whatever the method), "seed",
and where wanted "average_missing" (average tensors that the base lacks) and "lines" (see `merge.lines`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tunemerge.checkpoint.model import open_checkpoint, read_json
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.merge.versions import versions_of


def uses(params: Mapping[str, Any]) -> dict[str, str | int]:
    """For the key: the versions of the methods that such a merge runs; linear averages."""
    averages = params["average"] or params.get("average_missing")
    return versions_of({params["method"], *(["linear"] if averages else [])})


def prepare(params: Mapping[str, Any]) -> None:
    """Load the method's kernels, once a process: the first process of all compiles them, which takes seconds."""
    _load_kernels(params["method"])


@cache
def _load_kernels(name: str) -> None:
    """By a merge of small matrices in the form in which a study merges its models."""
    import numpy as np

    from tunemerge.merge.memory import merge_state
    from tunemerge.merge.method import METHODS

    method = METHODS[name]
    count = max(method.min_models, min(2, method.max_models or 2))
    models = [{"matrix": np.full((2, 8), value + 1.0, np.float32)} for value in range(count)]
    merge_state(name, models, {"matrix": np.zeros((2, 8), np.float32)}, method.grid(count, 1)[0], threads=1)


@operation("merge", version=2, prepare=prepare, uses=uses)
def merge(job: Job) -> Cost:
    """Costs nothing but seconds and memory: a merge sees no examples."""
    from tunemerge.merge.engine import fill_folder, plan_checkpoints

    models = [open_checkpoint(path) for path in job.inputs["models"]]
    base = next((open_checkpoint(path) for path in job.inputs.get("base", ())), None)
    choice = next((read_json(path / "choice.json") for path in job.inputs.get("choice", ())), None)
    plan = plan_checkpoints(
        job.params["method"],
        models,
        base,
        choice["parameters"] if choice else job.params["parameters"],
        seed=job.params["seed"],
        average=job.params["average"],
        average_missing=job.params.get("average_missing", False),
        lines=job.params.get("lines"),
    )
    fill_folder(plan, models, base, job.out, record={}, progress=job.progress)
    return Cost()
