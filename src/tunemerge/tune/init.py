"""The step "init" of the graph: a base and a head for the study's labels, the common start of all experts."""

from __future__ import annotations

from tunemerge.data.seen import pass_on
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.fitted import read_fitted
from tunemerge.tasks.precision import environment
from tunemerge.tasks.several import specs_of
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import SEVERAL, TASKS, code_of_task, kind_of


@operation("init", version=2, environment=environment, prepare=hub.prepare, uses=code_of_task)
def init(job: Job) -> Cost:
    """Inputs model, fitted (a step "fit" for each head that fits something); params task (a Spec), seed, dropout (a
    probability for all dropouts of the model, or none)."""
    task = Spec.of(job.params)
    found = iter(read_fitted(folder) for folder in job.inputs.get("fitted", ()))
    each = [next(found, None) if TASKS[spec.kind].fits else None for spec in specs_of(task)]
    seed, dropout = job.params["seed"], job.params.get("dropout")
    with hub.one_thread():
        if task.kind == SEVERAL:
            kind_of(task).initialise(job.one("model"), job.out, task, seed, dropout, each)
        else:
            TASKS[task.kind].initialise(job.one("model"), job.out, task, seed, dropout, each[0])
    pass_on([job.one("model")], job.out)
    return Cost()
