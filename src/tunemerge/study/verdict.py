"""What the numbers support, and what they don't: choices on validation, contrasts on test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from tunemerge.report import format as fmt
from tunemerge.results import Verdict
from tunemerge.stats.components import Contrast
from tunemerge.stats.holm import holm
from tunemerge.stats.verdict import Outcome, decide
from tunemerge.study import wording


@dataclass(frozen=True)
class ArmSummary:
    """What a verdict may look at. `validation` is a mean over seeds, higher is better; `cost` is marginal, in FLOPs;
    `merges`: whether a merge is part of making it."""

    name: str
    strategy: str
    role: str
    deliverable: bool
    matched: bool
    merges: bool
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
    return arm, seed, wording.reason(arm, best)


def verdict(
    arms: Sequence[ArmSummary],
    judged: Sequence[Judged],
    margin: float,
    seeds: Sequence[int],
    metric: str,
    rates: Sequence[float] = (),
    trials: int = 0,
) -> Verdict:
    """The study's verdict in words; `metric` says how its differences are written, `rates` at which learning rates the
    arms were tuned, `trials` how many settings every tuning tried.

    `details` are the contrasts that the headline does not tell already, and where winner and handed-back arm differ.
    """
    by_name = {a.name: a for a in arms}
    among_orders = [j for j in judged if by_name[j.b].role == "order"]
    against = next((j for j in judged if by_name[j.b].role == "alternative"), None)
    handed = hand_back(arms, margin)
    at = wording.at_rates(rates, trials)

    def result(kind: str, sentence: str, winner: str | None, told: Judged | None = None) -> Verdict:
        details = wording.but(by_name.get(winner or ""), handed[0] if handed else None, against)
        details += [wording.describe(j, metric) for j in judged if told is None or {j.a, j.b} != {told.a, told.b}]
        if kind in ("inconclusive", "leads") and among_orders:
            details += wording.one_rate(rates)
        if handed:
            details += wording.where_test_disagrees(handed[0], arms, metric)
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
        return result("dont_merge", f"Don't merge: {wording.describe(against, metric)}{at}.", against.b, against)
    if not among_orders:
        return result("inconclusive", "Fewer than two orders could be had here: nothing to compare.", None)
    winner = _beats_all(among_orders) or _beats_main(among_orders)
    if winner:
        best = next(j for j in map(_facing(winner), among_orders) if j and j.outcome == "better")
        return result("better", f"{wording.describe(best, metric)}, at equal budget{at}.", winner, best)
    if all(j.outcome == "equivalent" for j in among_orders):
        cheapest = min((by_name[n] for j in among_orders for n in (j.a, j.b)), key=lambda a: (a.cost, a.name))
        no_difference = f"No difference that matters (within {fmt.size(margin, metric)}) between the orders"
        sentence = f"{no_difference}{at}: take the cheapest, {cheapest.name}."
        return result("equivalent", sentence, cheapest.name)
    main = among_orders[0]
    if main.outcome == "leads":
        return result("leads", wording.leads(main, len(seeds), metric), None, main)
    settled = next((j for j in among_orders if j.outcome in ("better", "worse")), None)
    if settled:
        sentence = f"{wording.describe(settled, metric)}, but no order beats all the others."
        return result("inconclusive", sentence, None, settled)
    if main.outcome == "equivalent":
        sentence = f"{wording.describe(main, metric)}; the others can't be told apart from them."
        return result("inconclusive", sentence, None, main)
    return result("inconclusive", wording.inconclusive(main, len(seeds), metric), None, main)


def _facing(name: str) -> Callable[[Judged], Judged | None]:
    """The contrast with `name` as its first arm; None where it takes no part."""
    return lambda j: j if j.a == name else wording.turned(j) if j.b == name else None


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
