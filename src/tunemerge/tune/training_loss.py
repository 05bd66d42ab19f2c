"""The training loss as it is told: per example, without label smoothing and other additions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TrainingLoss:
    """Mean training loss an example (without label smoothing) since it was last taken; `last` is the last batch's."""

    def __init__(self) -> None:
        self._sum, self._examples = 0.0, 0
        self.last = float("nan")

    def add(self, losses: Any) -> None:
        total = float(losses.sum())
        self._sum, self._examples, self.last = self._sum + total, self._examples + len(losses), total / len(losses)

    def take(self) -> float:
        mean = self._sum / max(1, self._examples)
        self._sum, self._examples = 0.0, 0
        return mean

    def state(self) -> dict[str, Any]:
        """What `set_state` puts back, as JSON."""
        return {"sum": self._sum, "examples": self._examples, "last": self.last}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._sum, self._examples, self.last = state["sum"], state["examples"], state["last"]
