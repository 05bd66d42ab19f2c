"""A model that the store let go, made again: the same steps on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from tunemerge.graph.events import Event
from tunemerge.graph.executors.base import Executor
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.graph.plan import Plan
from tunemerge.graph.run import look_up, run_plan
from tunemerge.store.artifacts import Store
from tunemerge.store.journal import Journal
from tunemerge.study.plan import StudyPlan


def restoring_plan(plan: StudyPlan, key: str) -> Plan | None:
    """What makes this step's model; None where the study has no such step (any more: its data or settings changed)."""
    step = next((s for s in plan.graph.steps if s.key == key), None)
    return None if step is None else Plan.of([step])


def steps_to_run(plan: Plan, store: Store) -> int:
    """How many steps it takes to have the plan's targets whole."""
    return len(look_up(plan, store, whole=True).missing)


def restore(
    plan: StudyPlan,
    wanted: Plan,
    store: Store,
    journal: Journal,
    executor: Executor | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> None:
    """Compute the targets' models, and what those need. Raises what `run_plan` raises."""
    plan.rows.write(wanted.leaves)
    with ExitStack() as stack:
        workers = stack.enter_context(LocalExecutor()) if executor is None else executor
        run_plan(wanted, store, workers, journal, on_event, whole=True)
