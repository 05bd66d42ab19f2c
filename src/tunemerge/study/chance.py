"""Models of the pool that learned nothing: on validation they are no better than one answer for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import mean
from typing import NamedTuple

import numpy as np
import pandas as pd

from tunemerge.findings import Finding, warning
from tunemerge.graph.step import Step
from tunemerge.results import CurvePoint, StepResult
from tunemerge.study.plan import StudyPlan
from tunemerge.tasks.task import TASKS

# A pool model is at chance while its loss is above this share of what the same answer for every row gives (a fresh head
# is unsure long after it is right more often than not), and its score within so many standard errors of that answer's.
_HARDLY, _BEYOND = 0.97, 1.64
_RANKING = "ranking"


class Chance(NamedTuple):
    """What the same answer for every row gets on validation: its loss (0 where the score says it all), and the score
    from which on a model knows more."""

    loss: float
    passed: float


def at_chance(plan: StudyPlan, steps: Iterable[StepResult]) -> list[Finding]:
    """Models of a pool made here that, over the seeds, know no more than how often each label occurs (classes), or what
    the mean of the values is (values)."""
    results = {s.key: s for s in steps}
    told = []
    for name, prediction in _predictions(plan).items():
        if prediction not in _CHANCE:
            continue
        found: list[tuple[float, float, Chance]] = []
        for node in (setting.pool[name] for setting in plan.settings.values()):
            step = results.get(node.key)  # none where no arm uses this model, or it was given
            point = _kept(step) if step is not None and step.op == "tune" else None
            if isinstance(node, Step) and point and point.validation_loss and point.validation_score is not None:
                rows = pd.concat([plan.rows.tables[leaf.key] for leaf in node.inputs["validation"]])
                found.append((point.validation_loss, point.validation_score, _CHANCE[prediction](rows)))
        if not found:
            continue
        loss, score = mean(f[0] for f in found), mean(f[1] for f in found)
        chance = Chance(mean(f[2].loss for f in found), mean(f[2].passed for f in found))
        if loss > _HARDLY * chance.loss and score < chance.passed:
            what = "AUROC" if prediction == _RANKING else "accuracy"
            log_loss = f"log loss {loss:.2f}, chance {chance.loss:.2f}; {what} {100 * score:.0f}%"
            told.append(f"{name} ({f'R2 {score:.2f}, chance 0' if prediction == 'value' else log_loss})")
    if not told:
        return []
    text = f"on validation these models of the pool are at chance: {', '.join(told)}"
    return [warning("pool-at-chance", text, "pool_budget", "raise pool_budget, or tuning.learning_rate")]


def _predictions(plan: StudyPlan) -> dict[str, str]:
    """What each model of the pool predicts (it is called as its task), or `_RANKING` where its score is an AUROC."""
    specs = {name: task.spec for name, task in plan.rows.tasks.items()}
    pool = next(iter(plan.settings.values())).pool
    kinds = {name: TASKS[spec.kind] for name in pool if (spec := specs.get(name)) is not None}
    return {name: _RANKING if kind.metric == "auroc" else kind.prediction for name, kind in kinds.items()}


def _kept(step: StepResult) -> CurvePoint | None:
    """The point of the curve whose state was kept."""
    return next((p for p in step.curve if p.step == step.chosen_step), None)


def _of_labels(rows: pd.DataFrame) -> Chance:
    """The log loss of the labels' shares, and the accuracy of the label that is most frequent."""
    weights = rows.groupby("label")["weight"].sum()
    shares = (weights / weights.sum()).to_numpy()
    most = float(shares.max())
    error = (most * (1 - most) / len(rows)) ** 0.5
    return Chance(float(-(shares * np.log(shares)).sum()), most + _BEYOND * error)


def _of_ranks(rows: pd.DataFrame) -> Chance:
    """The log loss of the labels' shares, and an AUROC that is surely above one half (Hanley and McNeil 1982)."""
    counts = rows["label"].value_counts()
    rare, others = float(counts.min()), float(counts.sum() - counts.min())
    error = ((rare + others + 1) / (12 * rare * max(others, 1.0))) ** 0.5
    return Chance(_of_labels(rows).loss, 0.5 + _BEYOND * error)


def _of_values(rows: pd.DataFrame) -> Chance:
    """The mean has R2 0; R2 is a squared correlation, and that of n unrelated rows is of the order of 1/sqrt(n)."""
    return Chance(0.0, _BEYOND**2 / len(rows))


_CHANCE: Mapping[str, Callable[[pd.DataFrame], Chance]] = {
    "classes": _of_labels,
    _RANKING: _of_ranks,
    "value": _of_values,
}
