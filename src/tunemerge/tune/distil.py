"""Distillation (Hinton et al. 2015, 1503.02531): the tuned model also learns what its teachers answer.

What teachers answer on the training rows is computed once, before the training: each reads them with its own tokenizer,
so that teachers may be of other architectures. Their passes are charged to the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.findings import Finding, error
from tunemerge.graph.cost import Cost
from tunemerge.stats.metrics import log_softmax
from tunemerge.tasks import flops
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.meter import metered
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, Loaded, kind_of
from tunemerge.tune.config import DistilConfig, TuneConfig


def distil_findings(spec: Spec) -> list[Finding]:
    """An error for kinds whose predictions are no logits of classes and no values."""
    if spec.kind in TASKS and TASKS[spec.kind].prediction in ("classes", "value"):
        return []
    text = f"models of the kind {spec.kind} can't be taught by others: only classes and values are distilled"
    return [error("distil", text, "teachers", "leave teachers out")]


def teachers_answers(
    teachers: Sequence[Path], rows: Rows, task: Spec, config: TuneConfig, device: str
) -> tuple[np.ndarray, Cost]:
    """float32 (n, k): the mean of the teachers' probabilities at the temperature, or of their values; and the cost."""
    kind, distil = kind_of(task), config.distil or DistilConfig()
    found, cost = [], Cost()
    for folder in teachers:
        model = kind.load(folder, task)
        model.net.to(device)
        encoded = kind.encode(model, rows, config.max_length)
        with metered(model.net) as meter:
            outputs = predictions(model, encoded, config.precision)
        each = flops.flops(meter.forward_shapes, flops.measure(model, encoded, "", False))
        cost += Cost(forward_examples=meter.forward_examples, forward_flops=each)
        found.append(np.exp(log_softmax(outputs / distil.temperature)) if kind.prediction == "classes" else outputs)
    return np.mean(found, axis=0).astype(np.float32), cost


def taught_losses(model: Loaded, outputs: Any, inputs: Any, answers: Any, config: TuneConfig) -> Any:
    """Of every row, float32 (batch,): how far the model is from its teachers' `answers` (batch, k).

    Classes: T^2 KL(teachers | model), both at temperature T; values: the kind's own loss against theirs.
    """
    import torch

    kind, distil = kind_of(model.spec), config.distil or DistilConfig()
    if kind.prediction != "classes":
        return kind.loss(model, outputs, inputs, answers[:, 0].double(), 0.0)
    logits = kind.predictions(model, outputs, inputs).float() / distil.temperature
    apart = torch.nn.functional.kl_div(torch.log_softmax(logits, 1), answers, reduction="none").sum(1)
    return distil.temperature**2 * apart
