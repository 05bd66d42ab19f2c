"""What the study says of what runs today, and of the rows that flip between two arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from tunemerge.flips import flips
from tunemerge.results import FlipCount, FlipExample, FlipsResult, IncumbentResult, TaskScore
from tunemerge.stats.components import contrast, estimate
from tunemerge.stats.metrics import Metric, metrics_of
from tunemerge.stats.predictions import Predictions
from tunemerge.study.beside import alone
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
        found = contrast(evidence.test(handed_back), predictions, metric, evidence.folds)
        against = alone(handed_back, NAME, found, evidence)
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
        name: float(np.mean([m.fn(p.target, p.outputs, p.weight) for p in by_seed]))
        for name, m in metrics.items()
        if probabilities or not m.probabilities
    }


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
