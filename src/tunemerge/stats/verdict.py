"""What one contrast supports: a pure decision."""

from __future__ import annotations

from typing import Literal

from tunemerge.stats.components import FEWEST_SEEDS, Contrast

Outcome = Literal["better", "worse", "equivalent", "inconclusive", "leads"]

LEVEL = 0.05


def decide(contrast: Contrast, p_holm: float, margin: float, seeds: int) -> Outcome:
    """The outcome of arm a against arm b.

    `p_holm` is the contrast's p value adjusted over the study's family; `margin` (>= 0, in the metric's unit) is the
    difference that makes no odds. In this order:

    - equivalent, from two seeds on: the 90% interval lies inside [-margin, margin] (two one-sided tests at 5%),
      significant or not: a difference too small to matter is no reason to pay more;
    - p_holm < .05: better or worse, or with fewer than 5 seeds "leads" (the arm that the difference's sign favours).
      With one seed p and intervals cover the test units alone, so "leads" says something of these test rows only;
    - inconclusive.

    Equivalence needs no 5 seeds: in simulation a difference as large as the margin was called equivalent at its nominal
    5% or less often with 2 and 3 seeds too (benchmarks/null_studies.py).
    """
    if seeds > 1 and -margin <= contrast.low90 and contrast.high90 <= margin:
        return "equivalent"
    if p_holm < LEVEL:
        if seeds < FEWEST_SEEDS:
            return "leads"
        return "better" if contrast.difference > 0 else "worse"
    return "inconclusive"
