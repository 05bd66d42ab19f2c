"""What a step cost. Costs of steps add up; what an addend does not know, the sum does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Cost:
    """The ledger's line of one step. Counts are what happened, not what was planned.

    FLOPs are floating-point operations (a multiply-add is two); `train_flops` counts forward and backward
    of optimizer steps, `forward_flops` the passes of search and evaluation. `seconds` is wall time inside
    the worker, `peak_memory` bytes of resident memory (the maximum, not a sum, where costs are added).
    """

    optimizer_steps: int = 0
    examples: int = 0
    tokens: int = 0
    train_flops: float = 0.0
    forward_examples: int = 0
    forward_flops: float = 0.0
    trials: int = 0
    seconds: float = 0.0
    peak_memory: int = 0

    def __add__(self, other: Cost) -> Cost:
        summed = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)}
        return Cost(**{**summed, "peak_memory": max(self.peak_memory, other.peak_memory)})

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Cost:
        return cls(**{f.name: values[f.name] for f in fields(Cost) if f.name in values})  # type: ignore[arg-type]


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())
