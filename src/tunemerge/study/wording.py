"""A verdict in words: what its contrasts, its headline and the arm handed back say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunemerge.report import format as fmt
from tunemerge.results import Interval
from tunemerge.stats.components import FEWEST_SEEDS
from tunemerge.stats.verdict import LEVEL, Outcome

if TYPE_CHECKING:
    from tunemerge.study.verdict import ArmSummary, Judged

# Among which arms the one handed back is chosen: others may stand above it in the table.
ELIGIBLE = "of the single checkpoints within the budget"


def turned(j: Judged) -> Judged:
    """The same contrast with a and b exchanged."""
    c = j.contrast
    outcome: Mapping[Outcome, Outcome] = {"better": "worse", "worse": "better"}
    contrast = replace(
        c,
        difference=-c.difference,
        low=-c.high,
        high=-c.low,
        low90=-c.high90,
        high90=-c.low90,
        by_seed=tuple(-x for x in c.by_seed),
        probability_a_better=1 - c.probability_a_better,
    )
    return replace(j, a=j.b, b=j.a, contrast=contrast, outcome=outcome.get(j.outcome, j.outcome))


def ahead(j: Judged) -> Judged:
    """The contrast with the better arm first."""
    return turned(j) if j.contrast.difference < 0 else j


def interval(j: Judged, metric: str) -> str:
    """ "2.1 [0.8, 3.4] points"."""
    c = j.contrast
    return fmt.contrast(Interval(value=c.difference, low=c.low, high=c.high), metric).removeprefix("+")


def describe(j: Judged, metric: str) -> str:
    """One contrast as a clause, the better arm first."""
    j = ahead(j)
    by, holm = interval(j, metric), f"Holm p {fmt.p_value(j.p_holm)}"
    if j.outcome == "better":
        return f"{j.a} beats {j.b} by {by}"
    if j.outcome == "equivalent":
        return f"{j.a} and {j.b} are equivalent within the margin ({by})"
    if j.outcome == "leads":
        few = f"not settled with so few {'folds' if j.contrast.folds else 'seeds'}"
        why = few if j.contrast.covers_seeds else "on these test rows, with one seed"
        return f"{j.a} leads {j.b} by {by}, {why}"
    if j.contrast.p < LEVEL:
        return f"{j.a} is ahead of {j.b} by {by}, which does not hold over all contrasts of the study ({holm})"
    return f"{j.a} and {j.b}: no reliable difference ({by}, {holm})"


def leads(j: Judged, seeds: int, metric: str) -> str:
    """The headline where too few seeds show a difference."""
    j = ahead(j)
    said = f"{j.a} leads {j.b} by {interval(j, metric)}"
    if seeds == 1:
        return f"{said} on these test rows; with one seed nothing is claimed (at least {FEWEST_SEEDS} are needed)."
    what = "folds" if j.contrast.folds else "seeds"
    return f"{said}: not settled with {seeds} {what} (at least {FEWEST_SEEDS} are needed)."


def inconclusive(j: Judged, seeds: int, metric: str) -> str:
    """The headline where nothing is settled, with what would settle it."""
    needed = j.contrast.seeds_to_settle
    folds = j.contrast.folds
    if j.contrast.p < LEVEL:
        more = "repetitions of the folds, or rows," if folds else "seeds or test rows"
        return f"{describe(j, metric)}: more {more} would settle a difference of this size."
    if seeds == 1:
        what = f"and one seed says nothing about the randomness of training: take {FEWEST_SEEDS} or more"
    elif folds and needed is None:
        what = "and no number of repetitions of the folds would settle this one: it takes more rows"
    elif folds:
        what = f"and about {needed} repetition{'s' * (needed != 1)} of the folds would settle one of this size"
    elif needed is None:
        what = "and no number of seeds would settle this one: it takes more test data"
    else:
        what = f"and about {needed} seeds would settle one of this size"
    return (
        f"No reliable difference between {j.a} and {j.b}: {interval(j, metric)}; differences under "
        f"{fmt.size(j.contrast.smallest_detectable, metric)} would hardly have been seen, {what}."
    )


def at_rates(rates: Sequence[float], trials: int = 0) -> str:
    """How far a claim goes: the learning rates behind it, or the trials of settings."""
    if trials:
        return f", each tuning the best of {trials} trials of settings by validation{at_rates(rates)}"
    if not rates:
        return ""
    if len(rates) == 1:
        return f", at this learning rate ({rates[0]:g})"
    return f", each tuning at the best of {len(rates)} learning rates by validation"


def one_rate(rates: Sequence[float]) -> list[str]:
    """What must be said where nothing is claimed, with one learning rate for all."""
    turns = "which order is ahead can turn with it (`learning_rates` tries several)"
    return [f"all of it at this learning rate ({rates[0]:g}): {turns}"] if len(rates) == 1 else []


def reason(handed: ArmSummary, best: ArmSummary) -> str:
    """Why this arm is handed back; `best` is the one with the best validation score among those that may be."""
    why = (
        f"{handed.name} has the best mean validation score {ELIGIBLE}"
        if handed.name == best.name
        else f"{handed.name} is the cheapest within the margin of the best validation score {ELIGIBLE} ({best.name}'s)"
    )
    several = len(handed.validation_by_seed) > 1
    return why + "; of its runs the one with the median validation score" * several


def but(winner: ArmSummary | None, handed: ArmSummary | None, against: Judged | None) -> list[str]:
    """What must be said where the arm that wins on test is not the one that validation hands back.

    `against` is the contrast of the best order with the best arm that merges nothing.
    """
    if winner is None or handed is None or winner.name == handed.name:
        return []
    gap = handed.validation - winner.validation
    score = "better" if gap > 0 else "as well" if gap == 0 else "within the margin"
    why = f"scores {score} on validation (which alone chooses){' and is cheaper' * (handed.cost < winner.cost)}"
    if handed.merges == winner.merges:
        return [f"but {handed.name} {why}, so it is handed back"]
    if handed.merges:
        return [f"but {handed.name}, a merge, {why}, so it is handed back"]
    needed = "" if against is None or against.outcome == "better" else "merging was not needed: "
    return [f"but {needed}{handed.name}, which merges nothing, {why}, so it is handed back"]


def where_test_disagrees(handed: ArmSummary, arms: Sequence[ArmSummary], metric: str) -> list[str]:
    """Where another arm that might have been handed back scores above it on test."""
    top = max((a for a in arms if a.deliverable and a.matched), key=lambda a: a.test)
    if top.name == handed.name or top.test <= handed.test:
        return []
    gap = fmt.size(top.test - handed.test, metric)
    return [f"on test, {top.name} scores {gap} above {handed.name}; validation chose, and the test never does"]
