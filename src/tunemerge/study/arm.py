"""An arm of a study: one strategy as it was read, for every seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tunemerge.graph.plan import Plan
from tunemerge.graph.private import pooling
from tunemerge.graph.step import Node, Step
from tunemerge.strategies.setting import Answer, Ensemble, Fitted, PerTask
from tunemerge.strategies.strategy import Strategy


@dataclass(frozen=True)
class Arm:
    """One strategy with one merge method (or one model of the pool), and its answer for every seed.

    `method` is None where nothing is merged, and where the method is chosen for each seed.
    """

    name: str
    strategy: Strategy
    method: str | None
    answers: Mapping[int, Answer]

    @cached_property
    def ceiling(self) -> bool:
        """Whether it pools the rows of private tasks, so that nobody may have it."""
        if any(isinstance(a, Fitted) and a.ceiling for a in self.answers.values()):
            return True
        nodes = [n for seed in self.answers for n in self.nodes(seed)]
        return bool(pooling(Plan.of(n for n in nodes if isinstance(n, Step))))

    def model(self, seed: int, task: str) -> tuple[Node, ...]:
        """The models that answer a task: one, or several whose predictions are averaged."""
        answer = self.answers[seed]
        if isinstance(answer, Fitted):
            return ()
        if isinstance(answer, Ensemble):
            return answer.models
        if isinstance(answer, PerTask):
            return (answer.models[task],) if task in answer.models else tuple(answer.models.values())
        return (answer,)

    def nodes(self, seed: int) -> tuple[Node, ...]:
        answer = self.answers[seed]
        if isinstance(answer, Fitted):
            return ()
        if isinstance(answer, Ensemble | PerTask):
            models = answer.models.values() if isinstance(answer, PerTask) else answer.models
            return tuple(dict.fromkeys(models))
        return (answer,)

    @property
    def models(self) -> bool:
        """Whether checkpoints answer, no simple model."""
        return not any(isinstance(a, Fitted) for a in self.answers.values())

    @property
    def deliverable(self) -> bool:
        return not any(isinstance(a, Ensemble | PerTask | Fitted) for a in self.answers.values())
