"""Attempts at steps, in the journal: a line where one starts and one where it ends, unless it was killed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tunemerge.graph.step import Step
from tunemerge.store.journal import Journal


@dataclass
class Attempts:
    """Writes the attempts of one run; `run` is a random name that its lines share."""

    journal: Journal
    run: str = field(default_factory=lambda: secrets.token_hex(6))
    _open: dict[str, tuple[str, float]] = field(default_factory=dict)

    def started(self, step: Step) -> None:
        attempt = secrets.token_hex(6)
        self._open[step.key] = attempt, time.monotonic()
        self._line("started", step, attempt, {})

    def finished(self, step: Step, cached: bool) -> None:
        """`cached`: another process had computed it by the time this one got its lock."""
        self._end("finished", step, {"cached": cached})

    def failed(self, step: Step, kind: str, message: str) -> None:
        """`kind`: raised (the operation's own error), lost (its worker died) or interrupted."""
        self._end("failed", step, {"kind": kind, "message": message})

    def _end(self, event: str, step: Step, more: dict[str, Any]) -> None:
        attempt, start = self._open.pop(step.key)
        self._line(event, step, attempt, {"seconds": round(time.monotonic() - start, 3), **more})

    def _line(self, event: str, step: Step, attempt: str, more: dict[str, Any]) -> None:
        same = {"key": step.key, "label": step.label, "op": step.op}
        self.journal.append(
            {"event": event, "run": self.run, "attempt": attempt, "time": round(time.time(), 3), **same, **more}
        )


def failed_attempts(journal: Journal, live: Callable[[str], bool] = lambda run: False) -> tuple[int, float]:
    """How many attempts failed or were killed, and the seconds spent on them.

    An attempt that has no end was killed with its run, unless that run is `live` (`store.holds.is_live` asks the
    kernel). How long it had worked nobody could write down; what is counted is the time to the last line that its run
    wrote: a lower bound, 0 where that line is its start.
    """
    count, seconds = 0, 0.0
    started: dict[str, tuple[str, float]] = {}
    last_sign: dict[str, float] = {}
    for line in journal.read():
        if line.get("event") not in ("started", "finished", "failed"):
            continue
        last_sign[line["run"]] = line["time"]
        if line["event"] == "started":
            started[line["attempt"]] = line["run"], line["time"]
            continue
        started.pop(line["attempt"], None)
        if line["event"] == "failed":
            count, seconds = count + 1, seconds + line["seconds"]
    at_work = {run for run in {run for run, _ in started.values()} if live(run)}
    for run, start in started.values():
        if run in at_work:
            continue
        count, seconds = count + 1, seconds + max(0.0, last_sign[run] - start)
    return count, seconds
