"""How many rows and examples: all sizes follow from one scale, which the planner's own estimate fits to the minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from tunemerge.propose.proposal import Proposal
from tunemerge.propose.tasks import Draft

BATCH = 32
LEAN = (
    "merge_then_tune",
    "tune_then_merge",
    "joint",
    "base_probe",
    "expert",
    "expert_tuned",
    "best_single",
    "ensemble",
)
# Of a task's rows: most that are taken at scale 1, fewest, and the share that a split may have.
_CAPS = {"test": (500, 100, 0.25), "validation": (200, 50, 0.1), "adapt": (1000, 64, 0.25), "source": (2000, 128, 0.4)}
# So much of the minutes is close enough.
_CLOSE, _TRIES, _SMALLEST, _LARGEST = 0.7, 5, 0.02, 20.0


@dataclass(frozen=True)
class Size:
    """`splits`: rows by task and split, none for tasks whose splits are given or made by time.
    `lean`: fewer arms, one method."""

    splits: dict[str, dict[str, int]]
    budget: int
    pool_budget: dict[str, int] = field(default_factory=dict)
    lean: bool = False
    seeds: int = 5


def size_of(proposal: Proposal, scale: float, lean: bool = False) -> Size:
    """Sizes at a scale; nothing is larger than the data."""
    roles = {t.name: _wanted(t, proposal) for t in proposal.tasks}
    own = [t for t in proposal.tasks if not t.given and proposal.date is None]
    splits = {t.name: _rows(t, roles[t.name], scale) for t in own}
    adapted = [t for t in proposal.tasks if "adapt" in roles[t.name]]
    rows = sum(splits[t.name]["adapt"] if t.name in splits else t.rows for t in adapted)
    budget = _batches(min(2 * rows, len(adapted) * 2 * _CAPS["adapt"][0] * scale))
    pool: dict[str, int] = {}
    if not proposal.pool:
        given = any(t.given for t in proposal.tasks)
        pool = {"examples": _batches(2 * _CAPS["source"][0] * scale)} if given else {"epochs": 2}
    # An order that tunes in two halves needs two steps for every model in each.
    models = max(len(proposal.tasks), len(proposal.pool))
    return Size(splits, max(budget, 4 * BATCH * models), pool, lean)


def _wanted(task: Draft, proposal: Proposal) -> tuple[str, ...]:
    if proposal.target is not None and task.name != proposal.target:
        return () if proposal.pool else ("validation", "source")
    made = not proposal.pool and (proposal.target is None or len(proposal.tasks) == 1)
    return ("test", "validation", "adapt", *(["source"] if made else []))


def _rows(task: Draft, wanted: tuple[str, ...], scale: float) -> dict[str, int]:
    """Every split has some rows of every label, as far as there are so many."""
    out = {}
    for split in wanted:
        most, fewest, share = _CAPS[split]
        if split == "source" and "test" not in wanted:
            share = 0.8
        if split == "adapt" and "source" not in wanted:
            share = 0.6
        asked = max(most * scale, fewest, 4 * len(task.raw))
        out[split] = max(2, int(min(asked, share * task.rows)))
    return out


def _batches(examples: float) -> int:
    return max(BATCH, int(examples) // BATCH * BATCH)


def fit(proposal: Proposal, minutes: float, take: Callable[[Size], tuple[float, float] | None]) -> Size:
    """The largest size whose estimated middle stays within the minutes; `take` gives a size's minutes, from and to, or
    None where nobody knows. Where the smallest takes longer, it has fewer arms."""
    for lean in (False, True):
        scale, best = 1.0, None
        for _ in range(_TRIES):
            size = size_of(proposal, scale, lean)
            wall = take(size)
            if wall is None:
                return size
            middle = math.sqrt(max(wall[0], 1e-9) * max(wall[1], 1e-9))
            if middle <= minutes:
                best = size if best is None or size.budget >= best.budget else best
                if middle >= _CLOSE * minutes or scale >= _LARGEST:
                    break
            bigger = min(_LARGEST, max(_SMALLEST, scale * 0.92 * minutes / middle))
            if bigger == scale or size_of(proposal, bigger, lean) == size:
                break
            scale = bigger
        if best is not None:
            return best
    return size_of(proposal, _SMALLEST, True)
