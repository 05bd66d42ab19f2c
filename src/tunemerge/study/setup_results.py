"""What a study was asked, as its results tell it: models, tasks, splits, budget."""

from __future__ import annotations

from collections.abc import Sequence

from tunemerge.results import ArmResult, BudgetInfo, PoolRecord, SplitsInfo, TaskInfo
from tunemerge.study.config_given import BuiltModel
from tunemerge.study.ledger import line
from tunemerge.study.plan import StudyPlan
from tunemerge.tasks.task import is_classes
from tunemerge.tune.record import TuneRecord


def pool_names(plan: StudyPlan) -> dict[str, str]:
    given = plan.config.pool
    names = next(iter(plan.settings.values())).pool
    made = "made here, once a seed, from the task's source rows"
    return {n: model_name(m if isinstance(m, str) else m.given) if (m := given.get(n)) else made for n in names}


def model_name(model: str | BuiltModel) -> str:
    """A model as a study names it."""
    if isinstance(model, str):
        return model
    keywords = ", ".join(f"{name}={value!r}" for name, value in model.config.items())
    return f"{model.build}({keywords})" + (f", weights {model.weights}" if model.weights else ", drawn by every seed")


def pool_record(r: TuneRecord) -> PoolRecord:
    return PoolRecord(rows=r.rows, seed=r.seed, base=r.base, model=r.model, cost=line(r.cost))


def task_infos(plan: StudyPlan) -> list[TaskInfo]:
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


def splits_info(plan: StudyPlan) -> SplitsInfo | None:
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


def budget_info(plan: StudyPlan, arms: Sequence[ArmResult], rates: Sequence[float]) -> BudgetInfo:
    budget = plan.config.budget
    setting = next(iter(plan.settings.values()))
    return BudgetInfo(
        unit=budget.unit,
        asked=budget.amount,
        examples=setting.budget * setting.batch_size,
        steps=setting.budget,
        batch_size=setting.batch_size,
        learning_rates=list(rates),
        search_trials=plan.config.tuning_search.trials if plan.config.tuning_search else 0,
        spent_by_arm={arm.name: arm.marginal.examples for arm in arms},
    )
