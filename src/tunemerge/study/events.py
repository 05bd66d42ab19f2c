"""What a study makes of the events of its run: which steps were there already, and how far it is."""

from __future__ import annotations

from collections.abc import Callable

from tunemerge.graph.events import Event, StepFinished, StepStarted
from tunemerge.progress import Tell


def noting_cached(keys: set[str], on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Hand events on, and note the steps that this run did not have to compute."""

    def heard(event: Event) -> None:
        if isinstance(event, StepFinished) and event.cached:
            keys.add(event.step.key)
        on_event(event)

    return heard


def told(total: int, tell: Tell) -> Callable[[Event], None]:
    """A run's events as a share of its steps and the step last begun."""
    done: set[str] = set()
    label = ""

    def on_event(event: Event) -> None:
        nonlocal label
        if isinstance(event, StepFinished):
            done.add(event.step.key)
        elif isinstance(event, StepStarted):
            label = event.label
        else:
            return
        tell(len(done) / max(1, total), f"{len(done)} of {total} steps{f', {label}' if label else ''}")

    return on_event
