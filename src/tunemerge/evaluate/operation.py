"""The step "predict" of the graph."""

from __future__ import annotations

from tunemerge.evaluate.predict import FILE, predict, write_predictions
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.tasks import hub
from tunemerge.tasks.precision import environment
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import code_of_task


@operation("predict", version=2, environment=environment, prepare=hub.prepare, uses=code_of_task)
def run(job: Job) -> Cost:
    """Inputs models (several: an ensemble), rows; params task (a Spec), max_length, precision ("auto" unless given),
    generate (whether answers are written; of kinds that can).

    The parameter `final` marks the one evaluation that may read a test split; it changes nothing here.
    """
    with hub.one_thread():
        predicted = predict(
            job.inputs["models"],
            job.inputs["rows"],
            task=Spec.of(job.params),
            max_length=job.params["max_length"],
            precision=job.params.get("precision", "auto"),
            generate=job.params.get("generate", False),
            progress=job.progress,
        )
    write_predictions(predicted.predictions, job.out / FILE)
    return predicted.cost
