"""What the numbers support, and what they don't: choices on validation, contrasts on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tunemerge.report import format as fmt
from tunemerge.results import Interval, Verdict
from tunemerge.stats.components import FEWEST_SEEDS, Contrast
from tunemerge.stats.holm import holm
from tunemerge.stats.verdict import LEVEL, Outcome, decide


@dataclass(frozen=True)
class ArmSummary:
    """What a verdict may look at. `validation` is a mean over seeds, higher is better; `cost` is marginal, in FLOPs."""

    name: str
    strategy: str
    role: str
    deliverable: bool
    matched: bool
    validation: float
    validation_by_seed: tuple[float, ...]
    cost: float
    test: float


@dataclass(frozen=True)
class Judged:
    """One contrast of the study's family, with its p value adjusted over the family, and what follows."""

    a: str
    b: str
    contrast: Contrast
    p_holm: float
    outcome: Outcome


def chosen_by_validation(arms: Sequence[ArmSummary]) -> list[ArmSummary]:
    """One arm a strategy, the one with the best mean validation score (the first where several share it)."""
    best: dict[str, ArmSummary] = {}
    for arm in arms:
        if arm.strategy not in best or arm.validation > best[arm.strategy].validation:
            best[arm.strategy] = arm
    return list(best.values())


def judge(
    arms: Sequence[ArmSummary], contrast: Callable[[str, str], Contrast], margin: float, seeds: int
) -> list[Judged]:
    """Every pair of orders, and the best order against the best alternative (both by validation); Holm over all."""
    chosen = chosen_by_validation(arms)
    orders = [a for a in chosen if a.role == "order"]
    pairs = [(a.name, b.name) for a, b in combinations(orders, 2)]
    order, alternative = best_of(arms, "order"), best_of(arms, "alternative")
    if order and alternative:
        pairs.append((order.name, alternative.name))
    contrasts = [contrast(a, b) for a, b in pairs]
    adjusted = holm([c.p for c in contrasts])
    return [
        Judged(a, b, c, p, decide(c, p, margin, seeds)) for (a, b), c, p in zip(pairs, contrasts, adjusted, strict=True)
    ]


def best_of(arms: Sequence[ArmSummary], role: str) -> ArmSummary | None:
    """The arm of this role with the best mean validation score."""
    return max((a for a in arms if a.role == role), key=lambda a: a.validation, default=None)


def median_position(scores: Sequence[float]) -> int:
    """The position of the median score (higher is better; the lower of the two middle ones)."""
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    return order[(len(order) - 1) // 2]


def hand_back(arms: Sequence[ArmSummary], margin: float) -> tuple[ArmSummary, int, str] | None:
    """(arm, position of its seed, reason). Chosen on validation alone; one checkpoint, within the budget.

    The cheapest arm within `margin` of the best validation score; of its seeds the one with the median score.
    """
    candidates = [a for a in arms if a.deliverable and a.matched]
    if not candidates:
        return None
    best = max(candidates, key=lambda a: a.validation)
    near = [a for a in candidates if a.validation >= best.validation - margin]
    arm = min(near, key=lambda a: (a.cost, -a.validation))
    seed = median_position(arm.validation_by_seed)
    reason = (
        f"{arm.name} has the best mean validation score"
        if arm.name == best.name
        else f"{arm.name} is the cheapest within the margin of the best validation score ({best.name}'s)"
    )
    return arm, seed, f"{reason}; of its seeds the one with the median validation score"


def verdict(
    arms: Sequence[ArmSummary],
    judged: Sequence[Judged],
    margin: float,
    seeds: Sequence[int],
    metric: str,
) -> Verdict:
    """The study's verdict in words; `metric` says how its differences are written."""
    by_name = {a.name: a for a in arms}
    among_orders = [j for j in judged if by_name[j.b].role == "order"]
    against = next((j for j in judged if by_name[j.b].role == "alternative"), None)
    handed = hand_back(arms, margin)
    details = [describe(j, metric) for j in judged]
    if handed:
        details += _test_disagrees(handed[0], arms, metric)

    def result(kind: str, sentence: str, winner: str | None) -> Verdict:
        return Verdict(
            kind=kind,  # type: ignore[arg-type]
            sentence=sentence,
            details=details,
            winner=winner,
            handed_back=handed[0].name if handed else None,
            handed_back_seed=seeds[handed[1]] if handed else None,
            handed_back_reason=handed[2] if handed else "no arm is a single checkpoint within the budget",
        )

    if against and against.outcome == "worse":
        gap = describe(_turned(against), metric)
        return result("dont_merge", f"Don't merge: {gap}.", against.b)
    if not among_orders:
        return result("inconclusive", "Fewer than two orders could be had here: nothing to compare.", None)
    winner = _beats_all(among_orders) or _beats_main(among_orders)
    if winner:
        best = next(j for j in map(_facing(winner), among_orders) if j and j.outcome == "better")
        return result("better", f"{describe(best, metric)}, at equal budget.", winner)
    if all(j.outcome == "equivalent" for j in among_orders):
        cheapest = min((by_name[n] for j in among_orders for n in (j.a, j.b)), key=lambda a: (a.cost, a.name))
        no_difference = f"No difference that matters (within {fmt.size(margin, metric)}) between the orders"
        sentence = f"{no_difference}: take the cheapest, {cheapest.name}."
        return result("equivalent", sentence, cheapest.name)
    main = among_orders[0]
    if main.outcome == "leads":
        ahead = main if main.contrast.difference > 0 else _turned(main)
        sentence = (
            f"{ahead.a} leads {ahead.b} by {interval(ahead, metric)}: not settled with {len(seeds)} seeds "
            f"(at least {FEWEST_SEEDS} are needed)."
        )
        return result("leads", sentence, None)
    settled = next((j for j in among_orders if j.outcome in ("better", "worse")), None)
    if settled:
        return result("inconclusive", f"{describe(settled, metric)}, but no order beats all the others.", None)
    if main.outcome == "equivalent":
        return result("inconclusive", f"{describe(main, metric)}; the others can't be told apart from them.", None)
    return result("inconclusive", _inconclusive(main, len(seeds), metric), None)


def describe(j: Judged, metric: str) -> str:
    """One contrast as a clause, the better arm first."""
    if j.contrast.difference < 0:
        j = _turned(j)
    if j.outcome == "better":
        return f"{j.a} beats {j.b} by {interval(j, metric)}"
    if j.outcome == "equivalent":
        return f"{j.a} and {j.b} are equivalent within the margin ({interval(j, metric)})"
    if j.outcome == "leads":
        return f"{j.a} leads {j.b} by {interval(j, metric)}, not settled with so few seeds"
    return f"{j.a} and {j.b}: no reliable difference ({interval(j, metric)}, Holm p {j.p_holm:.2f})"


def interval(j: Judged, metric: str) -> str:
    """ "2.1 [0.8, 3.4] points"."""
    c = j.contrast
    return fmt.contrast(Interval(value=c.difference, low=c.low, high=c.high), metric).removeprefix("+")


def _inconclusive(main: Judged, seeds: int, metric: str) -> str:
    needed = main.contrast.seeds_to_settle
    if seeds == 1:
        what = "and one seed says nothing about the randomness of training: take 5 or more"
    elif main.contrast.p < LEVEL:
        what = "and this one does not hold over all contrasts of the study (Holm): more seeds would settle it"
    elif needed is None:
        what = "and no number of seeds would settle this one: it takes more test data"
    else:
        what = f"and about {needed} seeds would settle one of this size"
    return (
        f"No reliable difference between {main.a} and {main.b}: {interval(main, metric)}; differences under "
        f"{fmt.size(main.contrast.smallest_detectable, metric)} would hardly have been seen, {what}."
    )


def _turned(j: Judged) -> Judged:
    """The same contrast with a and b exchanged."""
    c = j.contrast
    outcome: Mapping[Outcome, Outcome] = {"better": "worse", "worse": "better"}
    turned = Contrast(
        **{
            **vars(c),
            "difference": -c.difference,
            "low": -c.high,
            "high": -c.low,
            "low90": -c.high90,
            "high90": -c.low90,
            "by_seed": tuple(-x for x in c.by_seed),
            "probability_a_better": 1 - c.probability_a_better,
        }
    )
    return Judged(j.b, j.a, turned, j.p_holm, outcome.get(j.outcome, j.outcome))


def _facing(name: str) -> Callable[[Judged], Judged | None]:
    """The contrast with `name` as its first arm; None where it takes no part."""
    return lambda j: j if j.a == name else _turned(j) if j.b == name else None


def _beats_all(judged: Sequence[Judged]) -> str | None:
    for name in dict.fromkeys(n for j in judged for n in (j.a, j.b)):
        faced = [f for f in map(_facing(name), judged) if f]
        if all(f.outcome == "better" for f in faced):
            return name
    return None


def _beats_main(judged: Sequence[Judged]) -> str | None:
    """The winner of the first pair, the question that the study is about, unless another order beats that one."""
    main = judged[0]
    winner = {"better": main.a, "worse": main.b}.get(main.outcome)
    beaten = winner and any(f.outcome == "worse" for f in map(_facing(winner), judged) if f)
    return None if beaten else winner


def _test_disagrees(handed: ArmSummary, arms: Sequence[ArmSummary], metric: str) -> list[str]:
    top = max((a for a in arms if a.deliverable and a.matched), key=lambda a: a.test)
    if top.name == handed.name or top.test <= handed.test:
        return []
    gap = fmt.size(top.test - handed.test, metric)
    return [f"on test, {top.name} scores {gap} above {handed.name}; validation chose, and the test never does"]
