"""Questions beside the family of orders: the model handed back against what runs today, and against the best simple
model. Each is one contrast by itself (p is not adjusted), and the verdict says how it stands."""

from __future__ import annotations

from collections.abc import Iterable

from tunemerge.report import format as fmt
from tunemerge.results import ArmResult, ContrastResult, Interval, Verdict
from tunemerge.stats.components import Contrast
from tunemerge.stats.verdict import Outcome, decide
from tunemerge.study.scores import Evidence

_ASIDE = " (a question beside the family of orders: p is not adjusted)"


def as_result(a: str, b: str, found: Contrast, p_holm: float, outcome: Outcome) -> ContrastResult:
    """A contrast as it stands in results.json."""
    return ContrastResult(
        a=a,
        b=b,
        difference=Interval(value=found.difference, low=found.low, high=found.high),
        p=found.p,
        p_holm=p_holm,
        degrees_of_freedom=found.df,
        probability_a_better=found.probability_a_better,
        verdict=outcome,
        smallest_detectable=found.smallest_detectable,
        seeds_to_settle=found.seeds_to_settle,
    )


def alone(a: str, b: str, found: Contrast, evidence: Evidence) -> ContrastResult:
    """A contrast that is a question of its own."""
    plan = evidence.plan
    return as_result(a, b, found, found.p, decide(found, found.p, plan.config.margin, len(plan.settings)))


def against_simple(evidence: Evidence, arms: Iterable[ArmResult], handed_back: str | None) -> ContrastResult | None:
    """The arm handed back minus the simple model, fitted without a checkpoint, that is best by validation."""
    simple = [arm for arm in arms if arm.simple and not arm.ceiling]
    if handed_back is None or not simple:
        return None
    best = max(simple, key=lambda arm: evidence.metric.sign * arm.validation)
    return alone(handed_back, best.name, evidence.contrast(handed_back, best.name), evidence)


def with_beside(
    verdict: Verdict, today: ContrastResult | None, simple: ContrastResult | None, metric: str, margin: float
) -> Verdict:
    """The verdict with a clause for each of the two, in the headline too where the model handed back does not win."""
    sentence, reason, details = verdict.sentence, verdict.handed_back_reason, list(verdict.details)
    if simple is not None and not _ahead(simple, "better", "leads"):
        details.append(f"{_clause(simple, metric, f'{simple.b} (no checkpoint)')}{_ASIDE}")
        sentence += _simple_headline(simple, margin)
    if today is not None:
        keep = ": keep what runs today" * (today.verdict == "worse")
        details.append(f"{_clause(today, metric, f'the {today.b}')}{keep}{_ASIDE}")
    if today is not None and today.verdict == "worse":
        sentence += f" Keep what runs today: it beats {today.a}."
        reason += "; it is the best that the study made, but no reason to replace what runs today, which beats it"
    return verdict.model_copy(update={"sentence": sentence, "details": details, "handed_back_reason": reason})


def _ahead(c: ContrastResult, *outcomes: str) -> bool:
    """Whether the first arm is ahead with one of these outcomes."""
    return c.verdict in outcomes and c.difference.value > 0


def _simple_headline(c: ContrastResult, margin: float) -> str:
    """What the headline says of the simple model; nothing where it is behind by more than the margin, if unsettled."""
    name = f" {c.b}, a simple model without a checkpoint,"
    if c.verdict == "worse":
        return f"{name} beats {c.a}."
    if c.verdict == "leads":
        return f"{name} leads {c.a}."
    if c.verdict == "equivalent":
        return f"{name} is equivalent to {c.a} within the margin."
    return f"{name} is not reliably worse than {c.a}." if c.difference.value <= margin else ""


def _clause(c: ContrastResult, metric: str, b: str) -> str:
    """The contrast as a clause, the better of its arms first; `b` is what the second is called."""
    ahead = c.difference.value >= 0
    low, high = (c.difference.low, c.difference.high) if ahead else (-c.difference.high, -c.difference.low)
    by = fmt.contrast(Interval(value=abs(c.difference.value), low=low, high=high), metric).removeprefix("+")
    first, second = (c.a, b) if ahead else (b, c.a)
    both = f"{c.a} and {b}"
    return {
        "better": f"{first} beats {second} by {by}",
        "worse": f"{first} beats {second} by {by}",
        "equivalent": f"{both} are equivalent within the margin ({by})",
        "leads": f"{first} leads {second} by {by}, not settled with so few runs",
        "inconclusive": f"{both}: no reliable difference ({by}, p {fmt.p_value(c.p)})",
    }[c.verdict]
