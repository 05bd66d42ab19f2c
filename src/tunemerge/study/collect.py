"""From finished steps to Results: scores, costs and the verdict, and what else a reader must know."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from tunemerge.findings import Finding, note
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import OPERATIONS
from tunemerge.graph.step import Step
from tunemerge.results import (
    ArmResult,
    BudgetInfo,
    CurvePoint,
    FindingResult,
    IncumbentResult,
    PoolRecord,
    Results,
    SplitsInfo,
    StepResult,
    TaskInfo,
    Trial,
    Unavailable,
)
from tunemerge.search.operation import FILE as CHOICE_FILE
from tunemerge.study import verdict as verdicts
from tunemerge.study.beside import against_simple, as_result, with_beside
from tunemerge.study.chance import at_chance
from tunemerge.study.config_given import BuiltModel
from tunemerge.study.hindsight import control_ahead, overfitting, rates_at_edge
from tunemerge.study.ledger import arm_cost, line, union_cost
from tunemerge.study.plan import StudyPlan
from tunemerge.study.scores import Evidence, score_arms
from tunemerge.study.today import flipped, incumbent_result
from tunemerge.tasks.task import is_classes
from tunemerge.tune.record import CURVE_FILE, TuneRecord

VERSIONS = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "safetensors", "pyarrow")


@dataclass(frozen=True)
class RunFacts:
    """What only the run knows: which steps came from the store, attempts that failed, how often tests were opened."""

    cached: frozenset[str]
    failed_attempts: int
    failed_seconds: float
    test_openings: int
    study_file: str


def collect(plan: StudyPlan, evidence: Evidence, facts: RunFacts) -> Results:
    """Everything that the study found out. Reads stored predictions; trains and evaluates nothing."""
    config, artifacts = plan.config, evidence.artifacts
    costs = {arm.name: arm_cost(plan, arm, artifacts) for arm in plan.arms}
    steps = _steps(plan, evidence, facts.cached)
    arms = [arm.model_copy(update={"chosen": _chosen(arm, steps)}) for arm in score_arms(evidence, costs)]
    summaries = [_summary(arm, evidence.metric.sign) for arm in arms if not arm.ceiling]
    rates = config.learning_rates or [config.tuning.learning_rate]
    judged = verdicts.judge(summaries, evidence.contrast, config.margin, len(plan.settings))
    decision = verdicts.verdict(summaries, judged, config.margin, config.seed_list, config.metric, rates)
    chosen = {s.name for s in verdicts.chosen_by_validation(summaries)}
    arms = [
        arm.model_copy(update={"method_chosen": arm.name in chosen, "handed_back": arm.name == decision.handed_back})
        for arm in arms
    ]
    incumbent = incumbent_result(evidence, decision.handed_back)
    simple = against_simple(evidence, arms, decision.handed_back)
    decision = with_beside(decision, incumbent.against if incumbent else None, simple, config.metric, config.margin)
    findings = [*plan.findings, *_exploratory(facts), *overfitting(steps), *at_chance(plan, steps)]
    findings += rates_at_edge(arms, rates)
    findings += control_ahead(arms, decision.handed_back, config.metric, evidence.metric.sign)
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
        base=_named(config.base) if config.base else "none",
        base_licence=config.base_licence,
        pool=_pool(plan),
        pool_records={name: _record(record) for name, record in plan.records.items()},
        tasks=_tasks(plan),
        seeds=config.seed_list,
        splits=_splits(plan),
        budget=_budget(plan, arms, rates),
        verdict=decision,
        arms=arms,
        unavailable=[Unavailable(name=name, reason=reason) for name, reason in plan.unavailable],
        contrasts=[as_result(j.a, j.b, j.contrast, j.p_holm, j.outcome) for j in judged],
        incumbent=incumbent,
        simple=simple,
        flipped=flipped(evidence, _labels(plan), _told_flips(incumbent, judged)),
        steps=steps,
        study_cost=line(union_cost(plan.graph.steps, artifacts)),
        failed_attempts=facts.failed_attempts,
        failed_seconds=facts.failed_seconds,
        test_openings=facts.test_openings,
        findings=[FindingResult.model_validate(f.as_dict()) for f in findings],
        study_file=facts.study_file,
    )


def _numeric_environment(plan: StudyPlan) -> dict[str, str]:
    """What changed the numbers besides code and data: device, precision, threads."""
    return {k: v for k, v in OPERATIONS["tune"].environment().items() if k != "torch"}


def _summary(arm: ArmResult, sign: float) -> verdicts.ArmSummary:
    """What the verdict may see, oriented so that higher is better."""
    return verdicts.ArmSummary(
        name=arm.name,
        strategy=arm.strategy,
        role=arm.role,
        deliverable=arm.deliverable,
        matched=arm.matched,
        merges=arm.merges,
        validation=sign * arm.validation,
        validation_by_seed=tuple(sign * x for x in arm.validation_by_seed),
        cost=arm.marginal.train_flops + arm.marginal.forward_flops,
        test=sign * arm.test.value,
    )


def _labels(plan: StudyPlan) -> dict[str, list[str]]:
    return {name: list(t.spec.labels) for name, t in plan.rows.tasks.items() if t.spec and is_classes(t.spec.kind)}


def _told_flips(incumbent: IncumbentResult | None, judged: Sequence[verdicts.Judged]) -> list[tuple[str, str]]:
    """The pairs whose flips the report tells: the arm handed back against what runs today, and the main contrast."""
    today = [(incumbent.against.a, incumbent.name)] if incumbent and incumbent.against else []
    return today + [(j.a, j.b) for j in judged[:1]]


def _pool(plan: StudyPlan) -> dict[str, str]:
    given = plan.config.pool
    names = next(iter(plan.settings.values())).pool
    made = "made here, once a seed, from the task's source rows"
    return {n: _named(m if isinstance(m, str) else m.given) if (m := given.get(n)) else made for n in names}


def _named(model: str | BuiltModel) -> str:
    """A model as a study names it."""
    if isinstance(model, str):
        return model
    keywords = ", ".join(f"{name}={value!r}" for name, value in model.config.items())
    return f"{model.build}({keywords})" + (f", weights {model.weights}" if model.weights else ", drawn by every seed")


def _record(r: TuneRecord) -> PoolRecord:
    return PoolRecord(rows=r.rows, seed=r.seed, base=r.base, model=r.model, cost=line(r.cost))


def _tasks(plan: StudyPlan) -> list[TaskInfo]:
    return [
        TaskInfo(
            name=t.name,
            role=t.role,
            kind=str(t.config.kind),
            classes=is_classes(str(t.config.kind)),
            labels=list(t.spec.labels) if t.spec else [],
            rows=dict(t.sizes),
            units=dict(t.units),
            unit=t.config.unit,
            weight=t.config.weight,
            data=", ".join(t.config.tables.values()),
            licence=t.config.licence,
            private=t.config.private,
        )
        for t in plan.rows.tasks.values()
    ]


def _splits(plan: StudyPlan) -> SplitsInfo | None:
    splits = plan.config.splits
    if splits is None:
        return None
    return SplitsInfo(
        by="build" if splits.build else splits.by,
        folds=splits.folds,
        repetitions=len(plan.settings) // splits.folds if splits.folds else None,
        overlap=plan.rows.overlap if splits.folds else None,
        column=splits.column,
        horizon=splits.horizon,
        embargo=splits.embargo,
        build=splits.build,
        build_digest=plan.rows.splitter,
    )


def _budget(plan: StudyPlan, arms: Sequence[ArmResult], rates: Sequence[float]) -> BudgetInfo:
    budget = plan.config.budget
    setting = next(iter(plan.settings.values()))
    return BudgetInfo(
        unit=budget.unit,
        asked=budget.amount,
        examples=setting.budget * setting.batch_size,
        steps=setting.budget,
        batch_size=setting.batch_size,
        learning_rates=list(rates),
        spent_by_arm={arm.name: arm.marginal.examples for arm in arms},
    )


def _steps(plan: StudyPlan, evidence: Evidence, cached: frozenset[str]) -> list[StepResult]:
    users = plan.users()
    return [_step(s, users[s.key][1], users[s.key][0], evidence, s.key in cached) for s in plan.graph.steps]


def _step(step: Step, seed: int | None, arms: list[str], evidence: Evidence, cached: bool) -> StepResult:
    artifact = evidence.artifacts[step.key]
    tuned: dict[str, Any] = {"curve": [], "chosen_step": None}
    chosen: dict[str, Any] = {"trials": [], "chosen": None}
    if step.op == "tune":
        tuned = json.loads(evidence.store.read(artifact, CURVE_FILE))
    if step.op in ("search", "choose", "pick"):
        chosen = json.loads(evidence.store.read(artifact, CHOICE_FILE))
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


def _chosen(arm: ArmResult, steps: Sequence[StepResult]) -> dict[str, dict[str, int]]:
    """What the arm's choices fell on, in the order in which it was tried, with how often; what was never chosen too."""
    keys, found = set(arm.steps), dict[str, dict[str, int]]()
    for trial in (t for s in steps if s.op == "pick" and s.key in keys for t in s.trials):
        for what, value in trial.parameters.items():
            name = f"{value:g}" if isinstance(value, float) else str(value)
            counts = found.setdefault(what, {})
            counts[name] = counts.get(name, 0) + trial.chosen
    return found


def _exploratory(facts: RunFacts) -> list[Finding]:
    if facts.test_openings <= 1:
        return []
    text = f"{facts.test_openings - 1} other plans opened these test rows before this one: this result is exploratory"
    return [note("exploratory", text, "test", "confirm on rows that no study has opened")]
