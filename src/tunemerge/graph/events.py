"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunemerge.graph.step import Step
from tunemerge.store.artifacts import Artifact


@dataclass(frozen=True)
class StepStarted:
    """A worker was given the step."""

    step: Step
    label: str


@dataclass(frozen=True)
class StepProgress:
    """`fraction` of the step that is done, 0 to 1, and what it is doing."""

    step: Step
    label: str
    fraction: float
    message: str


@dataclass(frozen=True)
class StepFinished:
    """The step's artifact is in the store; `cached` where this run had not to compute it."""

    step: Step
    label: str
    artifact: Artifact
    cached: bool


@dataclass(frozen=True)
class StepFailed:
    """An attempt at the step failed; `retried` where it starts over in a new worker."""

    step: Step
    label: str
    message: str
    retried: bool


Event = StepStarted | StepProgress | StepFinished | StepFailed
OnEvent = Callable[[Event], None]
