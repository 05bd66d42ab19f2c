"""Weights of classes in the training loss; their mean over the training rows is 1, so that rates mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from tunemerge.findings import Finding, error
from tunemerge.registry import listed, nearest
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig

Weights = Literal["balanced"] | Mapping[str, float]


def class_weight_findings(config: TuneConfig, specs: Sequence[Spec]) -> list[Finding]:
    """Weights where there are no classes, or of labels that are none. `specs`: of the heads that a model has."""
    if config.class_weights is None:
        return []
    where, spec = "tuning.class_weights", specs[0]
    if len(specs) > 1:
        text = "the tasks have heads of their own, and weights are of the classes of one"
        return [error("class-weights", text, where, "leave class_weights out")]
    if spec.kind not in TASKS or TASKS[spec.kind].prediction != "classes":
        return [error("class-weights", f"{spec.kind} has no classes to weigh", where, "leave class_weights out")]
    given = () if config.class_weights == "balanced" else tuple(config.class_weights)
    strange = [label for label in given if label not in spec.labels]
    missing = [label for label in spec.labels if given and label not in given]
    said = [f"{label!r} is no label{nearest(label, list(spec.labels))}" for label in strange]
    said += [f"no weight for {listed(map(repr, missing))}"] if missing else []
    return [error("class-weights", text, where, f"a weight for each of {listed(spec.labels)}") for text in said]


def class_weights(weights: Weights, labels: Sequence[str], target: np.ndarray) -> np.ndarray:
    """float32 (classes,), from the weights of a study and the classes of all training rows (n,).

    "balanced": in inverse proportion to how often a class occurs; one that doesn't occur weighs nothing.
    """
    count = np.bincount(target.astype(np.int64), minlength=len(labels)).astype(np.float64)
    if weights == "balanced":
        raw = np.divide(1.0, count, out=np.zeros(len(labels)), where=count > 0)
    else:
        raw = np.array([weights[label] for label in labels])
    return np.asarray(raw * count.sum() / (raw @ count), np.float32)
