"""The step "merge": models and a base in, one model folder out.

Inputs: "models" in order, "base" (none or one), "choice" (none, or the folder of a search whose parameters win).
Params: "method", "parameters", "average" (parts of names of tensors that are averaged whatever the method), "seed",
and where wanted "average_missing" (average tensors that the base lacks) and "lines" (see `merge.lines`).
"""

from __future__ import annotations

from tunemerge.checkpoint.model import open_checkpoint, read_json
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation


@operation("merge", version=2)
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
