"""The step "init" of the graph: a base and a head for the study's labels, the common start of all experts."""

from __future__ import annotations

from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment
from tunemerge.tasks.task import TASKS, code_of_task


@operation("init", version=1, environment=environment, prepare=hub.prepare, uses=code_of_task)
def init(job: Job) -> Cost:
    """Input model; params task, labels, seed, dropout (a probability for all dropouts of the model, or none)."""
    with hub.one_thread():
        TASKS[job.params["task"]].initialise(
            job.one("model"), job.out, job.params["labels"], job.params["seed"], job.params.get("dropout")
        )
    return Cost()
