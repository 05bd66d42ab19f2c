"""Every step as the results tell it: cost, curve, trials; and what an arm's choices fell on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tunemerge.graph.cost import Cost
from tunemerge.graph.step import Step
from tunemerge.results import ArmResult, CurvePoint, StepResult, Trial, TuningTrial
from tunemerge.search.operation import FILE as CHOICE_FILE
from tunemerge.study.ledger import line
from tunemerge.study.plan import StudyPlan
from tunemerge.study.scores import Evidence
from tunemerge.tune.record import CURVE_FILE
from tunemerge.tune.search import TRIALS_FILE


def step_results(plan: StudyPlan, evidence: Evidence, cached: frozenset[str]) -> list[StepResult]:
    users = plan.users()
    return [_step(s, users[s.key][1], users[s.key][0], evidence, s.key in cached) for s in plan.graph.steps]


def _step(step: Step, seed: int | None, arms: list[str], evidence: Evidence, cached: bool) -> StepResult:
    artifact = evidence.artifacts[step.key]
    tuned: dict[str, Any] = {"curve": [], "chosen_step": None}
    chosen: dict[str, Any] = {"trials": [], "chosen": None}
    searched = chosen
    if step.op == "tune":
        tuned = json.loads(evidence.store.read(artifact, CURVE_FILE))
    if "search" in step.params:
        searched = json.loads(evidence.store.read(artifact, TRIALS_FILE))
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
        tuning_trials=[TuningTrial(**t, chosen=i == searched["chosen"]) for i, t in enumerate(searched["trials"])],
    )


def choices(arm: ArmResult, steps: Sequence[StepResult]) -> dict[str, dict[str, int]]:
    """What the arm's choices fell on, in the order in which it was tried, with how often; what was never chosen too."""
    keys, found = set(arm.steps), dict[str, dict[str, int]]()
    picked: list[Trial | TuningTrial] = [t for s in steps if s.op == "pick" and s.key in keys for t in s.trials]
    searched = [t for s in steps if s.key in keys for t in s.tuning_trials if t.chosen]
    for trial in [*picked, *searched]:
        for what, value in trial.parameters.items():
            digits = ".2g" if isinstance(trial, TuningTrial) else "g"
            name = f"{value:{digits}}" if isinstance(value, float) else str(value)
            counts = found.setdefault(what, {})
            counts[name] = counts.get(name, 0) + trial.chosen
    return found
