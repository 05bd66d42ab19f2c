"""Progress of a run: one line for all of it with an ETA, one for every step that is running."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tunemerge.graph.events import Event, StepFailed, StepFinished, StepProgress, StepStarted
from tunemerge.study.plan import StudyPlan


class Watch:
    """A context that is also the run's `on_event`. Without a terminal it prints a line for every tenth of the run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.lines: dict[str, TaskID] = {}
        self.whole = self.progress.add_task("study", total=None, note="")
        self.begun: float | None = None
        self.cached = self.done = self.total = self.told = 0

    def __enter__(self) -> Watch:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.progress.stop()
        if kind is None and self.total:
            self.console.print(
                f"{self.done} steps run, {self.cached} taken from the store", style="dim", highlight=False
            )

    def planned(self, plan: StudyPlan) -> None:
        """Before the first event: how many steps there are."""
        self.total = len(plan.graph.steps)
        self.progress.update(self.whole, total=self.total)

    def __call__(self, event: Event) -> None:
        key = event.step.key
        if isinstance(event, StepStarted):
            self.begun = self.begun or time.monotonic()
            self.lines[key] = self.progress.add_task(f"  {event.label[:44]}", total=1.0, note="")
        elif isinstance(event, StepProgress):
            self.progress.update(self.lines[key], completed=event.fraction, note=event.message[:40])
        elif isinstance(event, StepFinished):
            self._finished(key, event.cached)
        elif isinstance(event, StepFailed):
            self._drop(key)
            again = "; trying once more" if event.retried else ""
            self.console.print(f"{event.label}: {event.message}{again}", style="red", markup=False)

    def _finished(self, key: str, cached: bool) -> None:
        self._drop(key)
        self.cached += cached
        self.done += not cached
        self.progress.update(self.whole, completed=self.cached + self.done, note=self._eta())
        tenth = 10 * (self.cached + self.done) // max(1, self.total)
        if not self.console.is_terminal and tenth > self.told and not cached:
            self.told = tenth
            self.console.print(f"{self.cached + self.done} of {self.total} steps{self._eta(', ')}", highlight=False)

    def _drop(self, key: str) -> None:
        if key in self.lines:
            self.progress.remove_task(self.lines.pop(key))

    def _eta(self, before: str = "") -> str:
        """Remaining steps at the pace of those that ran; cached ones say nothing about pace."""
        left = self.total - self.cached - self.done
        if self.begun is None or not self.done or left <= 0:
            return ""
        seconds = (time.monotonic() - self.begun) / self.done * left
        return f"{before}about {seconds / 60:.0f} min left" if seconds > 90 else f"{before}about {seconds:.0f} s left"
