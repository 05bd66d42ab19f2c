"""The training loss as it is told: per example, without label smoothing and other additions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunemerge.tune.together import Together


class TrainingLoss:
    """Mean training loss an example (without label smoothing) since it was last taken, of all processes; `last` is the
    last batch's of this one."""

    def __init__(self, together: Together | None = None) -> None:
        self._together = together or Together()
        self._sum, self._examples = 0.0, 0
        self.last = float("nan")

    def add(self, losses: Any) -> None:
        total = float(losses.sum())
        self._sum, self._examples, self.last = self._sum + total, self._examples + len(losses), total / len(losses)

    def take(self) -> float:
        total, examples = self._together.total([self._sum, float(self._examples)])
        mean = total / max(1.0, examples)
        self._sum, self._examples = 0.0, 0
        return mean

    def state(self) -> dict[str, Any]:
        """What `set_state` puts back, as JSON."""
        return {"sum": self._sum, "examples": self._examples, "last": self.last}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._sum, self._examples, self.last = state["sum"], state["examples"], state["last"]
