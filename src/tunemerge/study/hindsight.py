"""What only a finished run shows of itself: tunings that went too far, pool models that hardly began."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean

import numpy as np
import pandas as pd

from tunemerge.findings import Finding, warning
from tunemerge.graph.step import Step
from tunemerge.report.curves import OPENED
from tunemerge.results import CurvePoint, StepResult
from tunemerge.study.plan import StudyPlan

# A pool model has hardly learned while its validation loss is above this share of what the label shares alone give.
_HARDLY = 0.97


def overfitting(steps: Iterable[StepResult]) -> list[Finding]:
    """Tunings in which the validation loss ended well above its lowest while the training loss went on falling."""
    opened: dict[str, list[StepResult]] = {}
    for step in steps:
        points = [p for p in step.curve if p.validation_loss is not None]
        if not points:
            continue
        lowest = min(points, key=lambda p: p.validation_loss or 0.0)
        last = points[-1]
        falls = None not in (last.train_loss, lowest.train_loss) and last.train_loss <= lowest.train_loss  # type: ignore[operator]
        if falls and (last.validation_loss or 0.0) > OPENED * (lowest.validation_loss or 0.0):
            opened.setdefault(step.label, []).append(step)
    return [
        warning(
            "overfitting",
            f"in {len(found)} of its tunings the validation loss ended {100 * (OPENED - 1):.0f}% or more above its "
            "lowest while the training loss went on falling",
            label,
            "a smaller budget or learning rate, more adapt rows, or more dropout",
        )
        for label, found in opened.items()
    ]


def hardly_learned(plan: StudyPlan, steps: Iterable[StepResult]) -> list[Finding]:
    """Models of a pool made here that, over the seeds, know little more than how often each label occurs."""
    results = {s.key: s for s in steps}
    made: dict[str, list[tuple[CurvePoint, float]]] = {}
    for setting in plan.settings.values():
        for name, node in setting.pool.items():
            kept = _kept(results[node.key]) if isinstance(node, Step) and node.op == "tune" else None
            if isinstance(node, Step) and kept is not None:
                made.setdefault(name, []).append((kept, _chance(node, plan)))
    told = [
        f"{name} (log loss {loss:.2f}, by the label shares alone {chance:.2f}; accuracy {100 * accuracy:.0f}%)"
        for name, found in made.items()
        for loss, accuracy, chance in [_means(found)]
        if loss > _HARDLY * chance
    ]
    if not told:
        return []
    text = f"these models of the pool have hardly learned, by validation: {', '.join(told)}"
    return [warning("pool-hardly-learned", text, "pool_budget", "raise pool_budget, or tuning.learning_rate")]


def _kept(step: StepResult) -> CurvePoint | None:
    """The point of the curve whose state was kept, where rows held out have judged it."""
    found = next((p for p in step.curve if p.step == step.chosen_step), None)
    return found if found is not None and found.validation_loss is not None else None


def _means(found: list[tuple[CurvePoint, float]]) -> tuple[float, float, float]:
    losses, accuracies = zip(*((p.validation_loss or 0.0, p.validation_score or 0.0) for p, _ in found), strict=True)
    return mean(losses), mean(accuracies), mean(chance for _, chance in found)


def _chance(step: Step, plan: StudyPlan) -> float:
    """The lowest log loss on the step's validation rows of an answer that is the same for every row."""
    tables = [plan.rows.tables[leaf.key] for leaf in step.inputs["validation"]]
    weights = pd.concat(tables).groupby("label")["weight"].sum()
    shares = (weights / weights.sum()).to_numpy()
    return float(-(shares * np.log(shares)).sum())
