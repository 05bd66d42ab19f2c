"""What the study says of what runs today, and of the rows that flip between two arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from tunemerge.flips import flips
from tunemerge.report import format as fmt
from tunemerge.results import ContrastResult, FlipCount, FlipExample, FlipsResult, IncumbentResult, Interval, TaskScore
from tunemerge.stats.components import contrast, estimate
from tunemerge.stats.metrics import Metric, metrics_of
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.verdict import decide
from tunemerge.study.incumbent import NAME
from tunemerge.study.scores import Evidence, in_own_unit
from tunemerge.tasks.task import TASKS

# How many rows a page shows of what is gained, and of what is lost.
_SHOWN = 4


def incumbent_result(evidence: Evidence, handed_back: str | None) -> IncumbentResult | None:
    """Its scores, and the contrast of the arm handed back with it."""
    predictions, metric, config = evidence.incumbent(), evidence.metric, evidence.plan.config
    if not predictions or config.incumbent is None or evidence.plan.incumbent is None:
        return None
    given, probabilities = config.incumbent.predictions, evidence.plan.incumbent.probabilities
    against = None
    if handed_back:
        c = contrast(evidence.test(handed_back), predictions, metric, evidence.folds)
        against = ContrastResult(
            a=handed_back,
            b=NAME,
            difference=Interval(value=c.difference, low=c.low, high=c.high),
            p=c.p,
            p_holm=c.p,
            degrees_of_freedom=c.df,
            probability_a_better=c.probability_a_better,
            verdict=decide(c, c.p, config.margin, len(evidence.plan.settings)),
            smallest_detectable=c.smallest_detectable,
            seeds_to_settle=c.seeds_to_settle,
        )
    return IncumbentResult(
        name=NAME,
        predictions=[given] if isinstance(given, str) else list(given.values()),
        probabilities=probabilities,
        test=in_own_unit(estimate(predictions, metric, evidence.folds), metric),
        tasks={
            task: TaskScore(
                score=in_own_unit(estimate({task: by_seed}, metric, evidence.folds), metric),
                metrics=_metrics(
                    by_seed, probabilities, metrics_of(TASKS[str(evidence.plan.config.tasks[task].kind)].prediction)
                ),
            )
            for task, by_seed in predictions.items()
        },
        against=against,
    )


def _metrics(by_seed: list[Predictions], probabilities: bool, metrics: Mapping[str, Metric]) -> dict[str, float]:
    return {
        name: float(np.mean([m.fn(p.target, p.logits, p.weight) for p in by_seed]))
        for name, m in metrics.items()
        if probabilities or not m.probabilities
    }


def sentence(found: IncumbentResult, metric: str) -> str | None:
    """The contrast with what runs today as a clause of the verdict."""
    c = found.against
    if c is None:
        return None
    ahead = c.difference.value >= 0
    low, high = (c.difference.low, c.difference.high) if ahead else (-c.difference.high, -c.difference.low)
    by = fmt.contrast(Interval(value=abs(c.difference.value), low=low, high=high), metric).removeprefix("+")
    first, second = (c.a, f"the {c.b}") if ahead else (f"the {c.b}", c.a)
    said = {
        "better": f"{first} beats {second} by {by}",
        "worse": f"{first} beats {second} by {by}: keep what runs today",
        "equivalent": f"{c.a} and the {c.b} are equivalent within the margin ({by})",
        "leads": f"{first} leads {second} by {by}, not settled with so few seeds",
        "inconclusive": f"{c.a} and the {c.b}: no reliable difference ({by}, p {fmt.p_value(c.p)})",
    }[c.verdict]
    return f"{said}; this is asked beside the family of orders, so p is not adjusted"


def flipped(evidence: Evidence, labels: dict[str, list[str]], pairs: Iterable[tuple[str, str]]) -> list[FlipsResult]:
    """What the first arm of each pair gains and loses against the second."""
    if not any(task in labels for task in evidence.scored):
        return []
    return [_flipped(evidence, labels, a, b) for a, b in dict.fromkeys(pairs)]


def _flipped(evidence: Evidence, labels: dict[str, list[str]], a: str, b: str) -> FlipsResult:
    found = flips(evidence.table, labels, a, b, texts=evidence.texts)
    found = found[found["task"].isin(evidence.scored)]
    table, runs = evidence.table, len(evidence.plan.settings)
    tested = table[(table["split"] == evidence.plan.config.scored) & (table["arm"] == a)].groupby("task").size() / runs
    counts = {
        task: FlipCount(
            gains=float(found.loc[found["task"] == task, "gained"].sum() / runs),
            losses=float(found.loc[found["task"] == task, "lost"].sum() / runs),
            rows=round(float(tested[task])),
        )
        for task in evidence.scored
        if task in labels
    }
    lost = found.iloc[::-1]
    return FlipsResult(
        a=a,
        b=b,
        tasks=counts,
        gained=_examples(found[found["gained"] > found["lost"]]),
        lost=_examples(lost[lost["lost"] > lost["gained"]]),
    )


def _examples(rows: pd.DataFrame) -> list[FlipExample]:
    known = rows.head(_SHOWN).astype(object)
    return [
        FlipExample.model_validate(r) for r in known.where(known.notna(), None).drop(columns="lead").to_dict("records")
    ]
