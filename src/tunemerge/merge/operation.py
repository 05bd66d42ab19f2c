"""The step "merge": models and a base in, one model folder out.

Inputs: "models" in order, "base" (none or one), "choice" (none, or the folder of a search whose parameters win),
"under" (none, or the model that all models are adapters on: then the merge's own adapter is written beside it).
Params: "method", "parameters", "average" (parts of names of tensors that are averaged whatever the method), "seed",
and where wanted "lines" (see `merge.lines`). It is the document of a recipe, merged and recorded like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tunemerge.checkpoint.model import open_checkpoint, read_json
from tunemerge.data.seen import pass_on
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.merge.method import METHODS
from tunemerge.merge.versions import versions_of


def uses(params: Mapping[str, Any]) -> dict[str, str | int]:
    """For the key: the versions of the methods that such a merge runs; linear averages."""
    return versions_of({params["method"], *(["linear"] if params["average"] else [])})


def prepare(params: Mapping[str, Any]) -> None:
    """Load the method's kernels, once a process: the first process of all compiles them, which takes seconds."""
    _load_kernels(params["method"])


@cache
def _load_kernels(name: str) -> None:
    """By a merge of small matrices in the form in which a study merges its models."""
    import numpy as np

    from tunemerge.merge.memory import merge_state

    method = METHODS[name]
    count = max(method.min_models, min(2, method.max_models or 2))
    models = [{"matrix": np.full((2, 8), value + 1.0, np.float32)} for value in range(count)]
    merge_state(name, models, {"matrix": np.zeros((2, 8), np.float32)}, method.grid(count, 1)[0], threads=1)


@operation("merge", version=3, prepare=prepare, uses=uses)
def merge(job: Job) -> Cost:
    """Costs nothing but seconds and memory: a merge sees no examples."""
    from tunemerge.merge.heads import merge_head_files
    from tunemerge.merge.recipe.options import Options
    from tunemerge.merge.recipe.plain import plain_document
    from tunemerge.merge.recipe.steps import merge_places

    base = job.inputs.get("base", ())
    paths = (*job.inputs["models"], *base)
    choice = next((read_json(path / "choice.json") for path in job.inputs.get("choice", ())), None)
    parameters = choice["parameters"] if choice else job.params["parameters"]
    document = plain_document(
        METHODS[job.params["method"]],
        [open_checkpoint(path).tensors.keys() for path in paths],
        bool(base),
        parameters,
        average=job.params["average"],
        lines=job.params.get("lines"),
    )
    places = dict(zip(document.places, paths[: len(document.places)], strict=True))
    models, method, seed = job.inputs["models"], job.params["method"], job.params["seed"]
    under = base[0] if base else None
    settled = merge_head_files(models, under, method, parameters, seed=seed, average=job.params["average"])
    merge_places(document, places, Options(seed=seed), job, settled)
    if job.inputs.get("under"):
        from tunemerge.merge.lora.weighted import write_sum

        write_sum(models, job.out, method, parameters)
    pass_on(paths, job.out)
    return Cost()
