"""What a task predicts, as it stands in the parameters of steps: so it is part of their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Spec:
    """The kind, the names of what is predicted (classes in the order of the outputs, or values), and the options that
    change what a model computes: plain JSON. Tasks of one spec share one head."""

    kind: str
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """From the parameters of a step, where it stands under "task"."""
        task = params["task"]
        return cls(task["kind"], tuple(task["labels"]), task["options"])

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "labels": list(self.labels), "options": dict(self.options)}
