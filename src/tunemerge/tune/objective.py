"""What a tuning minimises, row by row: the kind's own loss, and what the settings make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunemerge.tasks.batching import Inputs
from tunemerge.tasks.precision import autocast
from tunemerge.tasks.task import Loaded, kind_of
from tunemerge.tune.config import DistilConfig, TuneConfig
from tunemerge.tune.distil import taught_losses
from tunemerge.tune.mixup import Blend


@dataclass(frozen=True)
class Lesson:
    """What is learned: rows as model inputs, their targets (n, ...), and the rows to train on in their order.
    `weights`, float32 (classes,), are those of the classes; `answers`, float32 (n, k), those of teachers."""

    encoded: Inputs
    target: np.ndarray
    order: np.ndarray
    weights: np.ndarray | None = None
    answers: np.ndarray | None = None


def losses(
    model: Loaded,
    lesson: Lesson,
    config: TuneConfig,
    inputs: Mapping[str, Any],
    target: Any,
    blend: Blend | None = None,
    answers: Any = None,
) -> tuple[Any, Any]:
    """Of every row of a micro-batch, float32 (batch,): the loss that is told, and the one that is minimised.

    `answers` are the teachers', of these rows. What is told is the labels' and has no label smoothing and no class
    weights, so that it compares with that of other settings.
    """
    import torch

    kind: Any = kind_of(model.spec)
    seen = inputs if blend is None else blend.inputs(inputs)
    with autocast(config.precision, target.device.type):
        outputs = kind.forward(model, seen)
    weights = None if lesson.weights is None else torch.from_numpy(lesson.weights).to(target.device)

    def of(smoothing: float, weigh: Any) -> Any:
        def against(answer: Any) -> Any:
            each = kind.loss(model, outputs, seen, answer, smoothing)
            return each if weigh is None else each * weigh[answer]

        return against(target) if blend is None else blend.losses(against, target)

    told = of(0.0, None)
    plain = not config.label_smoothing and weights is None
    learned = told if plain else of(config.label_smoothing, weights)
    if answers is None:
        return told, learned

    def taught(those: Any) -> Any:
        return taught_losses(model, outputs, seen, those, config)

    share = (config.distil or DistilConfig()).share
    return told, (1 - share) * learned + share * (taught(answers) if blend is None else blend.losses(taught, answers))
