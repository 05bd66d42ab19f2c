"""Progress of a run: one line for all of it with an ETA, one for every step that is running."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from tunemerge.graph.events import Event, StepFailed, StepFinished, StepProgress, StepStarted
from tunemerge.study.estimate import Forecast
from tunemerge.study.plan import StudyPlan

# Seconds: nothing is said of the time left before so many, and so many count as gone as the forecast said, since the
# first steps also import torch and wake the processor.
SILENT, TRUSTED = 10.0, 20.0
_BAR, _PERCENT, _ELAPSED = 16, 4, 8


class Watch:
    """A context that is also the run's `on_event`. Without a terminal it prints a line for every tenth of the run."""

    def __init__(self, console: Console, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.workers, self.clock = console, workers, clock
        self.progress = Progress(
            *_columns(console.width), console=console, transient=True, disable=not console.is_terminal
        )
        self.lines: dict[str, TaskID] = {}
        self.whole = self.progress.add_task("study", total=None, note="")
        self.begun: float | None = None
        self.cached = self.done = self.total = self.told = 0
        self.ran = Counter[str]()
        self.seconds: dict[str, float] = {}
        self.trusted = 0.0
        self.parts: dict[str, float] = {}

    def __enter__(self) -> Watch:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.progress.stop()
        if kind is None and self.total:
            ops = ", ".join(f"{n} {op}" for op, n in self.ran.items())
            said = f"{self.done} steps run{f' ({ops})' if ops else ''}, {self.cached} taken from the store"
            self.console.print(said, style="dim", highlight=False)

    def planned(self, plan: StudyPlan, costs: Forecast) -> None:
        """Before the first event: how many steps there are, and what those that are left may take."""
        self.expect(len(plan.graph.steps))
        self.seconds = {key: estimate.seconds for key, estimate in costs.steps.items()}
        self.trusted = TRUSTED if costs.spread is not None else 0.0

    def expect(self, steps: int) -> None:
        """So many steps there are, all of whose events will come."""
        self.total = steps
        self.progress.update(self.whole, total=steps)

    def __call__(self, event: Event) -> None:
        key = event.step.key
        if isinstance(event, StepStarted):
            if self.begun is None:
                self._begin()
            self.lines[key] = self.progress.add_task(f"  {event.label}", total=1.0, note="")
        elif isinstance(event, StepProgress):
            self.parts[key] = event.fraction
            self.progress.update(self.lines[key], completed=event.fraction, note=event.message)
            self.progress.update(self.whole, note=self._eta())
        elif isinstance(event, StepFinished):
            self._finished(key, event.step.op, event.cached)
        elif isinstance(event, StepFailed):
            self._drop(key)
            again = "; trying once more" if event.retried else ""
            self.console.print(f"{event.label}: {event.message}{again}", style="red", markup=False)

    def _begin(self) -> None:
        self.begun = self.clock()
        if self.cached:
            self.console.print(
                f"{self.cached} of {self.total} steps are taken from the store", highlight=False, style="dim"
            )

    def _finished(self, key: str, op: str, cached: bool) -> None:
        self._drop(key)
        self.cached += cached
        self.done += not cached
        if cached:
            self.seconds.pop(key, None)  # one that was not in the store, but whose work was
        else:
            self.ran[op] += 1
        self.parts[key] = 1.0
        self.progress.update(self.whole, completed=self.cached + self.done, note=self._eta())
        tenth = 10 * (self.cached + self.done) // max(1, self.total)
        if not self.console.is_terminal and tenth > self.told and not cached:
            self.told = tenth
            eta = self._eta()
            self.console.print(
                f"{self.cached + self.done} of {self.total} steps{', ' * bool(eta)}{eta}", highlight=False
            )

    def _drop(self, key: str) -> None:
        self.parts.pop(key, None)
        if key in self.lines:
            self.progress.remove_task(self.lines.pop(key))

    def _eta(self) -> str:
        """What is left by the forecast, at the pace of what was done; steps from the store are in neither."""
        elapsed = 0.0 if self.begun is None else self.clock() - self.begun
        done = sum(seconds * self.parts.get(key, 0.0) for key, seconds in self.seconds.items()) / self.workers
        left = sum(self.seconds.values()) / self.workers - done
        if elapsed < SILENT or left <= 0 or not done:
            return ""
        seconds = left * (elapsed + self.trusted) / (done + self.trusted)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"


def _columns(width: int) -> list[TextColumn | BarColumn | TimeElapsedColumn]:
    """Columns that keep their widths, so that nothing jumps: what a step says is cut first, then its name."""
    rest = max(20, width - _BAR - _PERCENT - _ELAPSED - 4)
    name = min(44, max(12, rest // 2))

    def column(cells: int) -> Column:
        return Column(width=cells, no_wrap=True, overflow="ellipsis")

    return [
        TextColumn("{task.description}", markup=False, table_column=column(name)),
        BarColumn(bar_width=_BAR, table_column=column(_BAR)),
        TextColumn("{task.percentage:>3.0f}%", table_column=column(_PERCENT)),
        TimeElapsedColumn(table_column=column(_ELAPSED)),
        TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=column(rest - name)),
    ]
