"""Watches a training: evaluates when it is time, keeps the best state, says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunemerge.tasks.batching import Inputs
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.task import Loaded, kind_of
from tunemerge.tune.averaging import Average
from tunemerge.tune.checkpoints import named, part
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.diverged import diverged
from tunemerge.tune.schedule import evaluation_steps, learning_rate_factor
from tunemerge.tune.training_loss import TrainingLoss

Progress = Callable[[float, str], None]
Watch = Callable[[Sequence["Point"]], bool]
_SECONDS_BETWEEN_MESSAGES = 0.25


@dataclass(frozen=True)
class Point:
    """One evaluation, after `step` optimizer steps and `examples` examples.

    `train_loss` is the mean over the examples since the evaluation before; `validation_loss` the kind's held-out
    loss (classes: the weighted log loss) and `validation_score` its own metric on all validation rows, None where there
    are none.
    """

    step: int
    examples: int
    train_loss: float
    validation_loss: float | None = None
    validation_score: float | None = None


class PrunedError(Exception):
    """Who watches a training has seen enough of it."""


class Keeper:
    """`chosen` is the step (from 1) whose state `restore` puts into the model: the best or the last one. `watch` is
    shown the curve after each evaluation, and may end the training there (PrunedError)."""

    def __init__(
        self,
        model: Loaded,
        examples: int,
        config: TuneConfig,
        validation: tuple[Inputs, Rows] | None,
        progress: Progress,
        average: Average | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.total = -(-examples // config.batch_size)
        self.chosen = self.total
        self.curve: list[Point] = []
        self._model, self._examples, self._config, self._progress = model, examples, config, progress
        self._validation, self._average = validation, average
        self._marks = set(evaluation_steps(self.total, config.evaluations))
        self._best_loss, self._best_state = float("inf"), dict[str, Any]()
        self._told, self._watch = 0.0, watch

    def after_step(self, step: int, loss: TrainingLoss) -> None:
        if self._average is not None:
            self._average.after_step(step, step in self._marks)
        if step in self._marks:
            with self._average.applied() if self._average else nullcontext():
                self.curve.append(self._evaluate(step, loss.take()))
            if self._watch is not None and self._watch(self.curve):
                raise PrunedError
        now = time.monotonic()
        if now - self._told > _SECONDS_BETWEEN_MESSAGES or step == self.total:
            self._told = now
            held_out = self.curve[-1].validation_loss if self.curve else None
            more = "" if held_out is None else f", validation {held_out:.3f}"
            self._progress(step / self.total, f"step {step}/{self.total}, loss {loss.last:.3f}{more}")

    def restore(self) -> None:
        """Put the chosen state into the model."""
        state = self._best_state if self.chosen != self.total else self._average.weights() if self._average else {}
        self._model.net.load_state_dict(state, strict=False)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `set_state` puts back: the tensors of the best state and of the average, and the rest as JSON."""
        values = {"chosen": self.chosen, "best_loss": self._best_loss, "curve": [asdict(p) for p in self.curve]}
        sums, counts = self._average.state() if self._average else ({}, {})
        return {**named("best", self._best_state), **named("average", sums)}, {**values, "average": counts}

    def set_state(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.chosen, self._best_loss = values["chosen"], values["best_loss"]
        self._best_state = part(tensors, "best")
        self.curve = [Point(**point) for point in values["curve"]]
        if self._average is not None:
            self._average.set_state(part(tensors, "average"), values["average"])

    def put_best(self) -> int:
        """Put the best evaluated state so far into the model, whatever came later; its step, 0 where there is none."""
        if not self._best_state:
            return 0
        self._model.net.load_state_dict(self._best_state, strict=False)
        return self.chosen

    def _evaluate(self, step: int, train_loss: float) -> Point:
        point = Point(step, min(step * self._config.batch_size, self._examples), train_loss)
        if self._validation is None:
            return point
        encoded, rows = self._validation
        kind = kind_of(self._model.spec)
        outputs = predictions(self._model, encoded, self._config.precision)
        loss = kind.held_out_loss(self._model, outputs, rows) if np.isfinite(outputs).all() else float("nan")
        if not np.isfinite(loss):
            config = self._config
            factor = learning_rate_factor(step - 1, self.total, config.warmup, config.schedule)
            what, peak = f"the validation loss became {loss}", config.learning_rate
            raise diverged(what, step, self.total, peak * factor, peak, [])
        if self._config.select == "best" and loss < self._best_loss:
            self.chosen, self._best_loss = step, loss
            # The last state needs no copy: it is what the model holds in the end.
            self._best_state = self._state() if step != self.total else {}
        score = kind.score(self._model, outputs, rows)
        return Point(point.step, point.examples, train_loss, loss, score if np.isfinite(score) else None)

    def _state(self) -> dict[str, Any]:
        trained = [(name, p) for name, p in self._model.net.named_parameters() if p.requires_grad]
        return {name: tensor.detach().clone() for name, tensor in [*trained, *self._model.net.named_buffers()]}
