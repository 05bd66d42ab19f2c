"""The learning rate as a function of the step, planned on the step's own budget."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, total: int, warmup: float, kind: str) -> float:
    """Factor on the peak learning rate in step `step` (from 0) of `total`: in (0, 1], so no step is spent at rate 0.

    The first floor(total * warmup) steps rise in a line; then it stays (constant), falls in a line, or along a cosine.
    """
    rising = math.floor(total * warmup)
    if step < rising:
        return (step + 1) / (rising + 1)
    if kind == "constant":
        return 1.0
    left = (total - step) / (total - rising)
    return left if kind == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def evaluation_steps(total: int, evaluations: int) -> list[int]:
    """After which optimizer steps (from 1) to evaluate: evenly spaced, the last of them `total`."""
    return sorted({max(1, round(total * i / evaluations)) for i in range(1, evaluations + 1)})
