"""From stored predictions to scores: the metrics of every arm, with intervals, in the metric's own unit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from io import BytesIO

import numpy as np
import pandas as pd

from tunemerge.evaluate.predict import FILE as PREDICTIONS
from tunemerge.evaluate.predict import read_predictions, target_columns
from tunemerge.results import ArmResult, Interval, TaskScore
from tunemerge.stats.components import Contrast, Estimate, contrast, estimate
from tunemerge.stats.folds import Folds
from tunemerge.stats.metrics import METRICS, Metric, metrics_of
from tunemerge.stats.predictions import Predictions
from tunemerge.store.artifacts import Artifact, Store
from tunemerge.strategies.adapters import adapted, form
from tunemerge.study.arm import Arm
from tunemerge.study.incumbent import NAME as INCUMBENT
from tunemerge.study.ledger import ArmCost, line
from tunemerge.study.plan import StudyPlan
from tunemerge.study.portfolios import portfolio
from tunemerge.study.private import numbered
from tunemerge.tasks.task import TASKS, is_classes

# Characters of a text that tell which row it is.
EXCERPT = 160


def in_own_unit(estimate: Estimate, metric: Metric) -> Interval:
    """An estimate (oriented so that higher is better) as the metric itself: a loss is positive again."""
    low, high = sorted((metric.sign * estimate.low, metric.sign * estimate.high))
    return Interval(value=metric.sign * estimate.value, low=low, high=high)


class Evidence:
    """Predictions and scores of a finished study, read once each."""

    def __init__(self, plan: StudyPlan, artifacts: Mapping[str, Artifact], store: Store) -> None:
        self.plan, self.artifacts, self.store = plan, artifacts, store
        self._read = lru_cache(maxsize=None)(self._read_predictions)
        self.metric: Metric = METRICS[plan.config.metric]
        self.contrast = lru_cache(maxsize=None)(self._contrast)
        self.folds = Folds(plan.config.folds, plan.rows.overlap) if plan.config.folds else None

    @cached_property
    def scored(self) -> list[str]:
        """The tasks whose mean is an arm's score."""
        return [t.name for t in self.plan.rows.tasks.values() if t.role in ("task", "target")]

    @cached_property
    def evaluated(self) -> list[str]:
        return [t.name for t in self.plan.rows.tasks.values() if t.role != "source"]

    def predictions(self, arm: str, task: str, split: str) -> list[Predictions]:
        """One a seed."""
        steps = (self.plan.predictions[arm, seed, task, split] for seed in self.plan.settings)
        return [self._read(s.key) for s in steps]

    def _read_predictions(self, key: str) -> Predictions:
        return read_predictions(BytesIO(self.store.read(self.artifacts[key], PREDICTIONS)))

    @cached_property
    def table(self) -> pd.DataFrame:
        """All predictions of the study: arm, seed, task, split, row (number of the data row), unit, target,
        outputs, weight. Units of private tasks are numbers."""
        every = [(*where, self._read(step.key)) for where, step in self.plan.predictions.items()]
        if self.plan.incumbent:
            scored = self.plan.config.scored
            for name, by_seed in self.plan.incumbent.predictions.items():
                every += [(INCUMBENT, s, name, scored, p) for s, p in zip(self.plan.settings, by_seed, strict=True)]
        parts = []
        for arm, seed, task, split, p in every:
            lines = self.plan.rows.lines[task, seed, split]
            spec = self.plan.rows.tasks[task].spec
            kept = "logit" if spec and is_classes(spec.kind) else "output"
            outputs = {f"{kept}_{i}": p.outputs[:, i] for i in range(p.outputs.shape[1])}
            unit = numbered(p.unit) if self.plan.config.tasks[task].private else p.unit
            columns = {"row": lines + 1, "unit": unit, **target_columns(p), **outputs, "weight": p.weight}
            parts.append(pd.DataFrame({"arm": arm, "seed": seed, "task": task, "split": split, **columns}))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def texts(self) -> pd.DataFrame:
        """How the test rows begin, by task and row: private ones have no text."""
        parts = []
        for name in self.evaluated:
            task = self.plan.rows.tasks[name]
            tested = {
                parts[split].digest: self.plan.rows.lines[name, run, split]
                for split in ("test", "held_out")
                for run, parts in task.parts.items()
                if split in parts
            }
            for digest, lines in tested.items():
                texts = TASKS[task.spec.kind].texts(self.plan.rows.tables[digest]) if task.spec else None
                shown = None if task.config.private or texts is None else [text[:EXCERPT] for text in texts]
                parts.append(pd.DataFrame({"task": name, "row": lines + 1, "text": shown}))
        return pd.concat(parts, ignore_index=True).drop_duplicates(["task", "row"])

    def validation(self, arm: str) -> list[float]:
        """Mean over tasks of the metric on validation, a value a seed."""
        by_task = [
            [self.metric.fn(p.target, p.outputs, p.weight) for p in self.predictions(arm, task, "validation")]
            for task in self.scored
        ]
        return [float(x) for x in np.mean(by_task, axis=0)]

    def test(self, arm: str) -> dict[str, list[Predictions]]:
        """What arms are compared on: the test rows, or with folds what each run held out."""
        return {task: self.predictions(arm, task, self.plan.config.scored) for task in self.scored}

    def stayed_out(self, arm: str) -> Estimate | None:
        """With folds: the score on the test rows that stayed out of all of them, where every task has such rows."""
        if self.folds is None or not all("test" in self.plan.rows.tasks[t].sizes for t in self.scored):
            return None
        predictions = {task: self.predictions(arm, task, "test") for task in self.scored}
        return estimate(predictions, self.metric, overlap=self.folds.overlap)

    def of_task(self, arm: str, task: str) -> tuple[list[Predictions], Estimate]:
        """An arm's predictions of one task, on what its score comes from, and that score."""
        folded = self.folds is not None and task in self.scored
        predictions = self.predictions(arm, task, self.plan.config.scored if folded else "test")
        own = {task: predictions}
        overlap = 0.0 if self.folds is None else self.folds.overlap
        return predictions, estimate(own, self.metric, self.folds) if folded else estimate(
            own, self.metric, overlap=overlap
        )

    def _contrast(self, a: str, b: str) -> Contrast:
        return contrast(self.test(a), self.test(b), self.metric, self.folds)

    def incumbent(self) -> dict[str, list[Predictions]]:
        """The predictions of what runs today, those that `test` has of an arm; nothing where there are none."""
        return dict(self.plan.incumbent.predictions) if self.plan.incumbent else {}


def score_arms(evidence: Evidence, costs: Mapping[str, ArmCost]) -> list[ArmResult]:
    """Every arm's validation and test scores, in the metric's own unit, with what it cost."""
    plan = evidence.plan
    scores = {arm.name: _task_scores(evidence, arm.name) for arm in plan.arms}
    out = []
    for arm in plan.arms:
        validation = evidence.validation(arm.name)
        test = estimate(evidence.test(arm.name), evidence.metric, evidence.folds)
        stayed_out = evidence.stayed_out(arm.name)
        tasks = {
            task: _relative(s, task, arm, scores, plan, evidence.metric.sign) for task, s in scores[arm.name].items()
        }
        seed = plan.config.seed_list[0]
        cost = costs[arm.name]
        out.append(
            ArmResult(
                name=arm.name,
                strategy=arm.strategy.name,
                method=arm.method,
                role=arm.strategy.role,
                description=arm.strategy.description,
                paper=arm.strategy.paper,
                deliverable=arm.deliverable,
                models_at_inference=len(arm.nodes(seed)) or 1,
                tuned=any(s.op == "tune" for s in plan.adaptation(arm, seed)),
                matched=arm.strategy.spends != "more",
                ceiling=arm.ceiling,
                validation=float(np.mean(validation)),
                validation_by_seed=validation,
                test=in_own_unit(test, evidence.metric),
                stayed_out=in_own_unit(stayed_out, evidence.metric) if stayed_out else None,
                test_by_seed=[evidence.metric.sign * x for x in test.by_seed],
                tasks=tasks,
                worst_task=min(evidence.scored, key=lambda t: evidence.metric.sign * tasks[t].score.value),
                marginal=line(cost.marginal),
                total=line(cost.total) if cost.total else None,
                total_examples=cost.total_examples,
                steps=[s.key for seed in plan.settings for s in plan.making(arm, seed)],
                models={t: [[n.key for n in arm.model(seed, t)] for seed in plan.settings] for t in evidence.scored},
                predictions=_keys(plan, arm),
                form=form(arm.nodes(seed)),
                portfolio=portfolio(evidence.test(arm.name), plan.config.folds) if _of_returns(evidence) else None,
                under={n.key: a.under.key for s in plan.settings for n in arm.nodes(s) if (a := adapted(n))},
            )
        )
    return out


def _keys(plan: StudyPlan, arm: Arm) -> dict[str, dict[str, list[str]]]:
    """The steps behind the arm's scores."""
    found: dict[str, dict[str, list[str]]] = {}
    for (name, _, task, split), step in plan.predictions.items():
        if name == arm.name:
            found.setdefault(task, {}).setdefault(split, []).append(step.key)
    return found


def _of_returns(evidence: Evidence) -> bool:
    return all(TASKS[str(evidence.plan.rows.tasks[t].config.kind)].prediction == "return" for t in evidence.scored)


def _task_scores(evidence: Evidence, arm: str) -> dict[str, TaskScore]:
    out = {}
    for task in evidence.evaluated:
        predictions, e = evidence.of_task(arm, task)
        known = metrics_of(TASKS[str(evidence.plan.rows.tasks[task].config.kind)].prediction)
        metrics = {
            name: float(np.mean([m.fn(p.target, p.outputs, p.weight) for p in predictions]))
            for name, m in known.items()
        }
        out[task] = TaskScore(score=in_own_unit(e, evidence.metric), metrics=metrics)
    return out


def _relative(
    own: TaskScore, task: str, arm: Arm, scores: Mapping[str, Mapping[str, TaskScore]], plan: StudyPlan, sign: float
) -> TaskScore:
    """Against the task's own expert (tuned), and against what the pool could do before (forgetting)."""
    expert = scores.get("experts", {}).get(task) if sign > 0 else None  # a larger share of a loss is worse
    role = plan.rows.tasks[task].role
    before = [s[task].score.value for name, s in scores.items() if name.startswith("expert/")]
    if role == "task":
        before = [scores[f"expert/{task}"][task].score.value] if f"expert/{task}" in scores else []
    forgets = (
        role in ("task", "retention")
        and before
        and any(s.op == "tune" for s in plan.adaptation(arm, plan.config.seed_list[0]))
    )
    return own.model_copy(
        update={
            "normalised": own.score.value / expert.score.value if expert and expert.score.value > 0 else None,
            "forgetting": max(sign * b for b in before) - sign * own.score.value if forgets else None,
        }
    )
