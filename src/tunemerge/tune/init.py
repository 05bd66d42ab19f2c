"""The step "init" of the graph: a base and a head for the study's labels, the common start of all experts."""

from __future__ import annotations

from tunemerge.data.seen import pass_on
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.fitted import read_fitted
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, code_of_task


@operation("init", version=2, environment=environment, prepare=hub.prepare, uses=code_of_task)
def init(job: Job) -> Cost:
    """Inputs model, fitted (none, or the step "fit"); params task (a Spec), seed, dropout (a probability for all
    dropouts of the model, or none)."""
    task = Spec.of(job.params)
    fitted = next((read_fitted(folder) for folder in job.inputs.get("fitted", ())), None)
    with hub.one_thread():
        TASKS[task.kind].initialise(
            job.one("model"), job.out, task, job.params["seed"], job.params.get("dropout"), fitted
        )
    pass_on([job.one("model")], job.out)
    return Cost()
