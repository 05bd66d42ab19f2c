"""Who paid for what: an arm's cost is that of all its steps, the study's that of their union."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from tunemerge.graph.cost import Cost, total
from tunemerge.graph.step import Step
from tunemerge.graph.twins import CONTENT_KEY
from tunemerge.results import CostLine
from tunemerge.store.artifacts import Artifact
from tunemerge.study.arm import Arm
from tunemerge.study.plan import StudyPlan, ancestors
from tunemerge.study.sunk import given_examples, made_elsewhere


@dataclass(frozen=True)
class ArmCost:
    """`marginal` is what the arm added to base and pool; `total` includes making the pool, None where it was given
    without a record of its cost: then at most the examples are known, in `total_examples`."""

    marginal: Cost
    total: Cost | None
    total_examples: int | None


def arm_cost(plan: StudyPlan, arm: Arm, artifacts: Mapping[str, Artifact]) -> ArmCost:
    """Means over the seeds. A step from the store counts with what it cost when it ran."""
    added = mean([steps_cost(plan.adaptation(arm, seed), artifacts) for seed in plan.settings])
    everything = mean([steps_cost(plan.making(arm, seed), artifacts) for seed in plan.settings])
    given = _given_in(plan, arm)
    examples = given_examples(plan.config, plan.records)
    known = everything.examples + sum(examples[n] for n in given) if all(n in examples for n in given) else None
    before = made_elsewhere(plan.records, given)
    return ArmCost(added, None if before is None else everything + before, known)


def steps_cost(steps: Iterable[Step], artifacts: Mapping[str, Artifact]) -> Cost:
    return total(Cost.of(artifacts[s.key].cost) for s in steps)


def union_cost(steps: Iterable[Step], artifacts: Mapping[str, Artifact]) -> Cost:
    """The cost of steps that are each paid once; so are twins, of which one has done the work of all."""
    found = (artifacts[s.key] for s in steps)
    return total(Cost.of(a.cost) for a in {a.meta.get(CONTENT_KEY, a.key): a for a in found}.values())


def mean(costs: list[Cost]) -> Cost:
    """Field by field; counts are rounded to whole numbers."""
    summed = total(costs)
    values = {}
    for f in fields(Cost):
        value = getattr(summed, f.name) / len(costs)
        values[f.name] = round(value) if isinstance(getattr(summed, f.name), int) else value
    return Cost(**{**values, "peak_memory": summed.peak_memory})


def line(cost: Cost) -> CostLine:
    return CostLine(**cost.as_dict())  # type: ignore[arg-type]


def _given_in(plan: StudyPlan, arm: Arm) -> list[str]:
    """The given checkpoints that the arm uses."""
    seed, setting = next(iter(plan.settings.items()))
    used = {s.key for s in ancestors(arm.nodes(seed))}
    return [name for name in plan.config.pool if setting.pool[name].key in used]
