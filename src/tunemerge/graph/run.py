"""Run a plan: compute what its targets need and the store lacks, independent steps side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunemerge.errors import StepFailedError, TunemergeError
from tunemerge.graph.attempts import Attempts, failed_attempts
from tunemerge.graph.events import Event, OnEvent, StepFailed, StepFinished, StepProgress, StepStarted
from tunemerge.graph.executors.base import Done, Executor, Failed, Progress, request_for
from tunemerge.graph.plan import Plan, parent_steps
from tunemerge.graph.step import Step
from tunemerge.graph.twins import Twins
from tunemerge.store.artifacts import Artifact, Store
from tunemerge.store.holds import holding
from tunemerge.store.journal import Journal

__all__ = ["Event", "StepFailed", "StepFinished", "StepProgress", "StepStarted", "failed_attempts", "run_plan"]

ATTEMPTS = 2  # a step whose worker dies is tried once more, in a new worker


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor,
    journal: Journal | None = None,
    on_event: OnEvent = lambda event: None,
    *,
    whole: bool = False,
) -> dict[str, Artifact]:
    """The artifacts, by key, of all steps of the plan that the store has when the targets are there.

    A step that only cached steps need is not run, so it may be missing in the answer, or be there without its model
    (`Store.find`); a target is never missing, and with `whole` has its model. Nor is one run whose work
    was done before on inputs of the same content, however they were made (`twins.py`). Meanwhile nobody removes a step
    of the plan from the store.
    Where a step fails, those that are running finish and are published, nothing new starts, and then
    StepFailedError is raised. On Ctrl-C, or any other exception, the workers are killed and it goes on up.
    """
    attempts = Attempts(journal or store.journal)
    run = _Run(plan, store, executor, attempts, on_event, whole)
    with holding(store.root, attempts.run, needed_keys(plan)):
        try:
            run.to_the_end()
        except BaseException:
            executor.kill()
            run.interrupted()
            raise
    if run.failure:
        raise run.failure
    return {**run.known, **run.artifacts}


def needed_keys(plan: Plan) -> set[str]:
    """The keys of everything that a run of the plan may read: steps and rows."""
    return {step.key for step in plan.steps} | {leaf.key for leaf in plan.leaves}


@dataclass
class _Run:
    plan: Plan
    store: Store
    executor: Executor
    attempts: Attempts
    tell: OnEvent
    whole: bool
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    known: Mapping[str, Artifact] = field(default_factory=dict)
    running: dict[str, Step] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    failure: StepFailedError | None = None

    def __post_init__(self) -> None:
        self.twins = Twins(self.store)

    def to_the_end(self) -> None:
        state = look_up(self.plan, self.store, whole=self.whole)
        self.artifacts, self.known, needed = dict(state.artifacts), state.stripped, state.missing
        for step in self.plan.steps:
            if step.key not in needed and (step.key in self.artifacts or step.key in self.known):
                there = self.artifacts.get(step.key) or self.known[step.key]
                self.tell(StepFinished(step, step.label, there, cached=True))
        waiting = [step for step in self.plan.steps if step.key in needed]
        while waiting or self.running:
            if not self.failure:
                while len(self.running) < self.executor.slots and any(map(self._ready, waiting)):
                    step = next(filter(self._ready, waiting))
                    waiting.remove(step)
                    self._start(step)
            if not self.running:
                return
            self._end(self.executor.wait(self._progress))

    def _ready(self, step: Step) -> bool:
        return all(parent.key in self.artifacts for parent in parent_steps(step))

    def _start(self, step: Step) -> None:
        request = request_for(step, self.artifacts, self.store)
        twin = self.twins.adopt(step, request.content, request.meta)
        if twin is not None:
            self.artifacts[step.key] = twin
            self.tell(StepFinished(step, step.label, twin, cached=True))
            return
        self.running[step.key] = step
        self.tries[step.key] = self.tries.get(step.key, 0) + 1
        self.attempts.started(step)
        self.executor.submit(request)
        self.tell(StepStarted(step, step.label))

    def _progress(self, progress: Progress) -> None:
        step = self.running[progress.key]
        self.tell(StepProgress(step, step.label, progress.fraction, progress.message))

    def _end(self, ending: Done | Failed) -> None:
        step = self.running.pop(ending.key)
        artifact = self.store.get(ending.key) if isinstance(ending, Done) else None
        if isinstance(ending, Done) and artifact is not None:
            self.artifacts[step.key] = artifact
            self.twins.add(artifact)
            self.attempts.finished(step, ending.cached)
            self.tell(StepFinished(step, step.label, artifact, cached=ending.cached))
            return
        if isinstance(ending, Done):
            ending = Failed(ending.key, f"its worker reported success, but {self.store.path(step.key)} is not there")
        retried = ending.lost and self.tries[step.key] < ATTEMPTS and not self.failure
        self.attempts.failed(step, "lost" if ending.lost else "raised", ending.message)
        self.tell(StepFailed(step, step.label, ending.message, retried))
        if retried:
            self._start(step)
        elif not self.failure:
            again = f", {ATTEMPTS} times" if ending.lost and self.tries[step.key] == ATTEMPTS else ""
            self.failure = StepFailedError(f"step {step.label or step.op!r} failed{again}: {ending.message}")

    def interrupted(self) -> None:
        """Say in the journal that what ran was stopped; a journal that can't be written changes nothing now."""
        for step in self.running.values():
            with contextlib.suppress(TunemergeError, KeyError):
                self.attempts.failed(step, "interrupted", "")


@dataclass(frozen=True)
class State:
    """What the store has of a plan: whole artifacts, those without their model, and the keys that must be computed."""

    artifacts: Mapping[str, Artifact]
    stripped: Mapping[str, Artifact]
    missing: frozenset[str]


def look_up(plan: Plan, store: Store, *, whole: bool = False) -> State:
    """What is there and what is to run: targets of which nothing is known, what those lack, and so on.

    A target whose model was removed on purpose is computed again only where another step needs the model, or `whole`.
    """
    found = {s.key: there for s in plan.steps if (there := store.find(s.key)) is not None}
    artifacts = {key: artifact for key, (artifact, complete) in found.items() if complete}
    stripped = {key: artifact for key, (artifact, complete) in found.items() if not complete}
    enough = artifacts if whole else {**artifacts, **stripped}
    needed = {step.key for step in plan.targets if step.key not in enough}
    for step in reversed(plan.steps):
        if step.key in needed:
            needed.update(parent.key for parent in parent_steps(step) if parent.key not in artifacts)
    return State(artifacts, stripped, frozenset(needed))
