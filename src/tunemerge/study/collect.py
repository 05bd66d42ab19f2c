"""From finished steps to Results: scores from stored predictions, costs from the ledger, the verdict from both."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tunemerge.evaluate.predict import FILE as PREDICTIONS
from tunemerge.evaluate.predict import read_predictions
from tunemerge.findings import Finding, note, warning
from tunemerge.graph.cost import Cost
from tunemerge.graph.step import Step
from tunemerge.results import (
    ArmResult,
    BudgetInfo,
    ContrastResult,
    CurvePoint,
    FindingResult,
    Interval,
    Results,
    StepResult,
    TaskInfo,
    TaskScore,
    Trial,
    Unavailable,
)
from tunemerge.stats.components import Contrast, contrast, estimate
from tunemerge.stats.metrics import METRICS, Metric, score
from tunemerge.stats.predictions import Predictions
from tunemerge.store.artifacts import Artifact
from tunemerge.study import verdict as verdicts
from tunemerge.study.ledger import ArmCost, arm_cost, line, steps_cost
from tunemerge.study.plan import Arm, StudyPlan, ancestors

VERSIONS = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "safetensors", "pyarrow")


@dataclass(frozen=True)
class RunFacts:
    """What only the run knows: which steps came from the store, attempts that failed, how often tests were opened."""

    cached: frozenset[str]
    failed_attempts: int
    failed_seconds: float
    test_openings: int
    study_file: str


class Evidence:
    """Predictions and scores of a finished study, read once each."""

    def __init__(self, plan: StudyPlan, artifacts: Mapping[str, Artifact]) -> None:
        self.plan, self.artifacts = plan, artifacts
        self.metric: Metric = METRICS[plan.config.metric]
        self.contrast = lru_cache(maxsize=None)(self._contrast)

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
        return [self._read(self.artifacts[s.key].path / PREDICTIONS) for s in steps]

    @staticmethod
    @lru_cache(maxsize=4096)
    def _read(path: Path) -> Predictions:
        return read_predictions(path)

    def validation(self, arm: str) -> list[float]:
        """Mean over tasks of the validation score, a value a seed."""
        by_task = [
            [score(self.metric, p.target, p.logits, p.weight) for p in self.predictions(arm, task, "validation")]
            for task in self.scored
        ]
        return [float(x) for x in np.mean(by_task, axis=0)]

    def test(self, arm: str) -> dict[str, list[Predictions]]:
        return {task: self.predictions(arm, task, "test") for task in self.scored}

    def _contrast(self, a: str, b: str) -> Contrast:
        return contrast(self.test(a), self.test(b), self.metric)


def collect(plan: StudyPlan, artifacts: Mapping[str, Artifact], facts: RunFacts) -> Results:
    """Everything that the study found out. Reads stored predictions; trains and evaluates nothing."""
    evidence = Evidence(plan, artifacts)
    config = plan.config
    costs = {arm.name: arm_cost(plan, arm, artifacts) for arm in plan.arms}
    arms = _arms(evidence, costs)
    summaries = [_summary(arm, plan) for arm in arms]
    judged = verdicts.judge(summaries, evidence.contrast, config.margin, len(config.seed_list))
    decision = verdicts.verdict(summaries, judged, config.margin, config.seed_list, _points)
    chosen = {s.name for s in verdicts.chosen_by_validation(summaries)}
    arms = [
        arm.model_copy(update={"method_chosen": arm.name in chosen, "handed_back": arm.name == decision.handed_back})
        for arm in arms
    ]
    steps = _steps(plan, artifacts, facts.cached)
    findings = [*plan.findings, *_exploratory(facts), *_overfitting(steps)]
    return Results(
        name=config.name,
        tunemerge=version("tunemerge"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        machine={
            "system": f"{platform.system()} {platform.machine()}",
            "processors": str(os.cpu_count()),
            **_numeric_environment(plan),
        },
        setting="one target" if config.target else "several tasks",
        metric=config.metric,
        higher_is_better=evidence.metric.higher_is_better,
        margin=config.margin,
        level=0.95,
        base=config.base or "none",
        base_licence=config.base_licence,
        pool=_pool(plan),
        tasks=_tasks(plan),
        seeds=config.seed_list,
        budget=_budget(plan),
        verdict=decision,
        arms=arms,
        unavailable=[Unavailable(name=name, reason=reason) for name, reason in plan.unavailable],
        contrasts=[_contrast_result(j) for j in judged],
        steps=steps,
        study_cost=line(steps_cost(plan.graph.steps, artifacts)),
        failed_attempts=facts.failed_attempts,
        failed_seconds=facts.failed_seconds,
        test_openings=facts.test_openings,
        findings=[FindingResult(**f.as_dict()) for f in findings],
        study_file=facts.study_file,
    )


def _points(difference: float) -> str:
    """A difference of scores in points (hundredths), for metrics between 0 and 1."""
    return f"{100 * difference:.1f} points"


def _numeric_environment(plan: StudyPlan) -> dict[str, str]:
    """What changed the numbers besides code and data: device, precision, threads."""
    from tunemerge.graph.operation import OPERATIONS

    return {k: v for k, v in OPERATIONS["tune"].environment().items() if k != "torch"}


def _arms(evidence: Evidence, costs: Mapping[str, ArmCost]) -> list[ArmResult]:
    plan = evidence.plan
    scores = {arm.name: _task_scores(evidence, arm.name) for arm in plan.arms}
    out = []
    for arm in plan.arms:
        validation = evidence.validation(arm.name)
        test = estimate(evidence.test(arm.name), evidence.metric)
        tasks = {task: _relative(s, task, arm, scores, plan) for task, s in scores[arm.name].items()}
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
                models_at_inference=max(len(arm.model(seed, task)) for task in evidence.scored),
                tuned=any(s.op == "tune" for s in plan.adaptation(arm, seed)),
                matched=arm.strategy.spends != "more",
                validation=float(np.mean(validation)),
                validation_by_seed=validation,
                test=Interval(value=test.value, low=test.low, high=test.high),
                test_by_seed=list(test.by_seed),
                tasks=tasks,
                worst_task=min(evidence.scored, key=lambda t: tasks[t].score.value),
                marginal=line(cost.marginal),
                total=line(cost.total) if cost.total else None,
                steps=[s.key for seed in plan.settings for s in ancestors(arm.nodes(seed))],
                models={t: [[n.key for n in arm.model(seed, t)] for seed in plan.settings] for t in evidence.scored},
            )
        )
    return out


def _task_scores(evidence: Evidence, arm: str) -> dict[str, TaskScore]:
    out = {}
    for task in evidence.evaluated:
        predictions = evidence.predictions(arm, task, "test")
        e = estimate({task: predictions}, evidence.metric)
        metrics = {
            name: float(np.mean([m.fn(p.target, p.logits, p.weight) for p in predictions])) for name, m in METRICS
        }
        out[task] = TaskScore(score=Interval(value=e.value, low=e.low, high=e.high), metrics=metrics)
    return out


def _relative(
    own: TaskScore, task: str, arm: Arm, scores: Mapping[str, Mapping[str, TaskScore]], plan: StudyPlan
) -> TaskScore:
    """Against the task's own expert (tuned), and against what the pool could do before (forgetting)."""
    expert = scores.get("experts", {}).get(task)
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
            "forgetting": max(before) - own.score.value if forgets else None,
        }
    )


def _summary(arm: ArmResult, plan: StudyPlan) -> verdicts.ArmSummary:
    return verdicts.ArmSummary(
        name=arm.name,
        strategy=arm.strategy,
        role=arm.role,
        deliverable=arm.deliverable,
        matched=arm.matched,
        validation=arm.validation,
        validation_by_seed=tuple(arm.validation_by_seed),
        cost=arm.marginal.train_flops + arm.marginal.forward_flops,
        test=arm.test.value,
    )


def _contrast_result(j: verdicts.Judged) -> ContrastResult:
    c = j.contrast
    return ContrastResult(
        a=j.a,
        b=j.b,
        difference=Interval(value=c.difference, low=c.low, high=c.high),
        p=c.p,
        p_holm=j.p_holm,
        degrees_of_freedom=c.df,
        probability_a_better=c.probability_a_better,
        verdict=j.outcome,
        smallest_detectable=c.smallest_detectable,
        seeds_to_settle=c.seeds_to_settle,
    )


def _pool(plan: StudyPlan) -> dict[str, str]:
    given = plan.config.pool
    names = next(iter(plan.settings.values())).pool
    made = "made here, once a seed, from the task's source rows"
    return {n: (m if isinstance(m, str) else m.model) if (m := given.get(n)) else made for n in names}


def _tasks(plan: StudyPlan) -> list[TaskInfo]:
    return [
        TaskInfo(
            name=t.name,
            role=t.role,
            kind=plan.config.task,
            labels=list(t.labels),
            rows=dict(t.sizes),
            data=t.config.data or ", ".join(t.config.files.values()),
            licence=t.config.licence,
        )
        for t in plan.rows.tasks.values()
    ]


def _budget(plan: StudyPlan) -> BudgetInfo:
    budget = plan.config.budget
    seed, setting = next(iter(plan.settings.items()))
    return BudgetInfo(
        unit=budget.unit,
        asked=budget.amount,
        examples=setting.budget * setting.batch_size,
        steps=setting.budget,
        batch_size=setting.batch_size,
        spent_by_arm={arm.name: plan.examples(arm, seed) for arm in plan.arms},
    )


def _steps(plan: StudyPlan, artifacts: Mapping[str, Artifact], cached: frozenset[str]) -> list[StepResult]:
    users: dict[str, list[str]] = {}
    seeds: dict[str, int] = {}
    for (arm, seed, _, _), predict in plan.predictions.items():
        for step in ancestors((predict,)):
            users.setdefault(step.key, [])
            if arm not in users[step.key]:
                users[step.key].append(arm)
            seeds[step.key] = seed
    return [_step(s, seeds[s.key], users[s.key], artifacts[s.key], s.key in cached) for s in plan.graph.steps]


def _step(step: Step, seed: int, arms: list[str], artifact: Artifact, cached: bool) -> StepResult:
    curve, trials = artifact.path / "tunemerge_tune.json", artifact.path / "choice.json"
    tuned = json.loads(curve.read_text()) if step.op == "tune" else {"curve": [], "chosen_step": None}
    chosen = json.loads(trials.read_text()) if step.op == "search" else {"trials": [], "chosen": None}
    return StepResult(
        key=step.key,
        op=step.op,
        label=step.label,
        seed=seed,
        inputs=list(dict.fromkeys(n.key for n in step.parents())),
        arms=arms,
        cost=line(Cost.of(artifact.cost)),
        cached=cached,
        digest=artifact.digest,
        curve=[CurvePoint(**p) for p in tuned["curve"]],
        chosen_step=tuned["chosen_step"],
        trials=[
            Trial(parameters=t["parameters"], score=t["score"], chosen=i == chosen["chosen"])
            for i, t in enumerate(chosen["trials"])
        ],
    )


def _exploratory(facts: RunFacts) -> list[Finding]:
    if facts.test_openings <= 1:
        return []
    text = f"these test rows were opened by {facts.test_openings - 1} other plans before: this result is exploratory"
    return [note("exploratory", text, "test", "confirm on rows that no study has opened")]


def _overfitting(steps: Iterable[StepResult], tolerance: float = 1.1) -> list[Finding]:
    """Tunings whose validation loss ended more than 10% above its lowest while the training loss fell."""
    opened: dict[str, list[StepResult]] = {}
    for step in steps:
        losses = [p.validation_loss for p in step.curve if p.validation_loss is not None]
        if losses and losses[-1] > tolerance * min(losses):
            opened.setdefault(step.label, []).append(step)
    return [
        warning(
            "overfitting",
            f"the validation loss ended {100 * (tolerance - 1):.0f}% or more above its lowest in {len(found)} of the "
            "tunings of this name; the checkpoint before that was taken",
            label,
            "a smaller budget or learning rate, more adapt rows, or more dropout",
        )
        for label, found in opened.items()
    ]
