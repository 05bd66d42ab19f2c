"""From finished steps to Results: scores, costs and the verdict, and what else a reader must know."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from tunemerge.findings import Finding, note
from tunemerge.graph.operation import OPERATIONS
from tunemerge.results import (
    ArmResult,
    FindingResult,
    IncumbentResult,
    Results,
    Unavailable,
)
from tunemerge.study import verdict as verdicts
from tunemerge.study.beside import against_simple, as_result, with_beside
from tunemerge.study.chance import at_chance
from tunemerge.study.hindsight import control_ahead, overfitting, pruned_trials, rates_at_edge
from tunemerge.study.ledger import arm_cost, line, union_cost
from tunemerge.study.plan import StudyPlan
from tunemerge.study.scores import Evidence, score_arms
from tunemerge.study.setup_results import budget_info, model_name, pool_names, pool_record, splits_info, task_infos
from tunemerge.study.step_results import choices, step_results
from tunemerge.study.today import flipped, incumbent_result
from tunemerge.tasks.task import is_classes

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
    steps = step_results(plan, evidence, facts.cached)
    arms = [arm.model_copy(update={"chosen": choices(arm, steps)}) for arm in score_arms(evidence, costs)]
    summaries = [_summary(arm, evidence.metric.sign) for arm in arms if not arm.ceiling]
    search = config.tuning_search
    searched = search is not None and search.learning_rate is not None
    rates = [] if searched else config.learning_rates or [config.tuning.learning_rate]
    judged = verdicts.judge(summaries, evidence.contrast, config.margin, len(plan.settings))
    trials = search.trials if search else 0
    decision = verdicts.verdict(summaries, judged, config.margin, config.seed_list, config.metric, rates, trials)
    chosen = {s.name for s in verdicts.chosen_by_validation(summaries)}
    arms = [
        arm.model_copy(update={"method_chosen": arm.name in chosen, "handed_back": arm.name == decision.handed_back})
        for arm in arms
    ]
    incumbent = incumbent_result(evidence, decision.handed_back)
    simple = against_simple(evidence, arms, decision.handed_back)
    decision = with_beside(decision, incumbent.against if incumbent else None, simple, config.metric, config.margin)
    findings = [*plan.findings, *_exploratory(facts), *overfitting(steps), *at_chance(plan, steps)]
    findings += rates_at_edge(arms, rates) + pruned_trials(arms, steps)
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
        base=model_name(config.base) if config.base else "none",
        base_licence=config.base_licence,
        pool=pool_names(plan),
        pool_records={name: pool_record(record) for name, record in plan.records.items()},
        tasks=task_infos(plan),
        seeds=config.seed_list,
        splits=splits_info(plan),
        budget=budget_info(plan, arms, rates),
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


def _exploratory(facts: RunFacts) -> list[Finding]:
    if facts.test_openings <= 1:
        return []
    text = f"{facts.test_openings - 1} other plans opened these test rows before this one: this result is exploratory"
    return [note("exploratory", text, "test", "confirm on rows that no study has opened")]
