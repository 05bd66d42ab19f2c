"""From a study file to the graph: every arm's steps for every seed, checked before anything expensive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import tunemerge.study.operations  # noqa: F401  (registers the operations)
from tunemerge.findings import Finding, error, note, refuse_errors
from tunemerge.graph.plan import Plan, refuse_test_leaks
from tunemerge.graph.private import refuse_pooling
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.registry import listed
from tunemerge.strategies.setting import Fitted, Setting, predict, predict_fitted
from tunemerge.study.advice import unanswered
from tunemerge.study.arm import Arm
from tunemerge.study.arms import build_arms
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_tuning import Budget
from tunemerge.study.incumbent import Incumbent
from tunemerge.study.rows import StudyRows, TaskRows
from tunemerge.study.setting import make_setting
from tunemerge.tune.record import TuneRecord

# Roles of tasks whose source rows may make a model of the pool.
TRAINED = ("task", "target", "source")


@dataclass(frozen=True)
class StudyPlan:
    """What a run will do. `predictions` maps (arm, seed, task, split) to its predict step; `records` are those of the
    pool's given checkpoints that `tunemerge tune` made."""

    config: StudyConfig
    rows: StudyRows
    settings: Mapping[int, Setting]
    arms: tuple[Arm, ...]
    unavailable: tuple[tuple[str, str], ...]
    predictions: Mapping[tuple[str, int, str, str], Step]
    graph: Plan
    findings: tuple[Finding, ...]
    incumbent: Incumbent | None = None
    records: Mapping[str, TuneRecord] = field(default_factory=dict)

    def with_findings(self, findings: list[Finding]) -> StudyPlan:
        return replace(self, findings=tuple(findings))

    def making(self, arm: Arm, seed: int) -> list[Step]:
        """The steps that make what the arm answers with: ancestors of its models. A simple model is fitted anew in each
        of its predictions: those."""
        if isinstance(arm.answers[seed], Fitted):
            return ancestors(p for (name, run, *_), p in self.predictions.items() if (name, run) == (arm.name, seed))
        return ancestors(arm.nodes(seed))

    def adaptation(self, arm: Arm, seed: int) -> list[Step]:
        """The steps that this arm adds to what existed: those that make it, less those of base and pool."""
        setting = self.settings[seed]
        given = [n for n in (setting.base_model, *setting.pool.values()) if n is not None]
        existed = {s.key for s in ancestors(given)}
        return [s for s in self.making(arm, seed) if s.key not in existed]

    def examples(self, arm: Arm, seed: int) -> int:
        """Training examples that the arm spends on adaptation; where trials are pruned, the most that it may spend."""
        steps = (s for s in self.adaptation(arm, seed) if s.op == "tune")
        return sum(s.params["examples"] * trials_of(s) for s in steps)

    def users(self) -> dict[str, tuple[list[str], int | None]]:
        """For every step the arms that it is for, and its seed; None where it serves several seeds."""
        arms: dict[str, dict[str, None]] = {}
        seeds: dict[str, set[int]] = {}
        for (arm, seed, _, _), prediction in self.predictions.items():
            for step in ancestors((prediction,)):
                arms.setdefault(step.key, {})[arm] = None
                seeds.setdefault(step.key, set()).add(seed)
        return {key: (list(found), min(seeds[key]) if len(seeds[key]) == 1 else None) for key, found in arms.items()}


def ancestors(nodes: Iterable[Node]) -> list[Step]:
    """The steps among `nodes` and everything above them, inputs before what uses them, each once."""
    return list(Plan.of(n for n in nodes if isinstance(n, Step)).steps)


def trials_of(tuning: Step) -> int:
    """How many tunings a step is."""
    return int(tuning.params.get("search", {}).get("trials", 1))


def make_plan(
    config: StudyConfig,
    rows: StudyRows,
    base: Leaf | None,
    given: Mapping[str, Leaf],
    records: Mapping[str, TuneRecord],
) -> StudyPlan:
    """Build the graph. Raises FindingsError with everything that makes it impossible."""
    found = [] if config.pool or base is None else _pool_budget_too_small(config, rows)
    pool_budget = Budget.model_validate({"steps": 1}) if found else config.pool_budget
    possible = config.model_copy(update={"pool_budget": pool_budget})
    settings = {seed: make_setting(possible, rows, seed, base, given, records) for seed in config.seed_list}
    arms, unavailable, problems = build_arms(config, settings)
    found += problems
    if not any(arm.models for arm in arms) and not problems:
        why = "; ".join(f"{name}: {reason}" for name, reason in unavailable) or "the study asks for no strategy"
        found.append(error("no-arm", f"no arm can be had: {why}", "strategies"))
    refuse_errors([*found, *unanswered(config, arms, unavailable, next(iter(settings.values())))])
    found += _rounded(config, next(iter(settings.values())))
    found += _trials(config, next(iter(settings.values())))
    found += unanswered(config, arms, unavailable, next(iter(settings.values())))
    found += [note("arm-unavailable", reason, name) for name, reason in unavailable]
    evaluated = [t for t in rows.tasks.values() if t.role != "source"]
    predictions = {
        (arm.name, seed, t.name, split): _prediction(arm, settings[seed], t, split)
        for seed in settings
        for arm in arms
        for t in evaluated
        for split in scored_splits(config, t)
    }
    graph = Plan.of(ancestors(list(predictions.values())))
    plan = StudyPlan(config, rows, settings, tuple(arms), tuple(unavailable), predictions, graph, (), records=records)
    found += _unequal_budgets(plan)
    refuse_errors(found)
    refuse_test_leaks(graph)
    ceilings = {arm.name for arm in arms if arm.ceiling and config.ceilings}
    refuse_pooling(Plan.of(ancestors(p for (arm, *_), p in predictions.items() if arm not in ceilings)))
    return replace(plan, findings=tuple(found))


def scored_splits(config: StudyConfig, task: TaskRows) -> tuple[str, ...]:
    """The splits of a task that arms are scored on: with folds its test rows as well, where it has any."""
    if task.role not in ("task", "target"):
        return ("test",)
    beside = ("test",) if config.folds and "test" in next(iter(task.parts.values())) else ()
    return ("validation", config.scored, *beside)


def _prediction(arm: Arm, setting: Setting, task: TaskRows, split: str) -> Step:
    answer, rows = arm.answers[setting.seed], task.parts[setting.seed][split]
    if isinstance(answer, Fitted):
        return predict_fitted(
            answer, task.name, rows, setting.scoring((rows,)), setting.seed, final=split != "validation"
        )
    return predict(arm.model(setting.seed, task.name), rows, setting.scoring((rows,)), final=split != "validation")


def _pool_budget_too_small(config: StudyConfig, rows: StudyRows) -> list[Finding]:
    """An error where the pool's budget leaves no optimizer step for a model of the pool."""
    sizes = {n: t.sizes["source"] for n, t in rows.tasks.items() if t.sizes.get("source") and t.role in TRAINED}
    batch, budget = config.tuning.batch_size, config.pool_budget
    short = {n: size for n, size in sizes.items() if budget.in_steps(batch, size) < 1}
    if not short:
        return []
    rows_of = f" over {listed(f'{size} source rows of {n}' for n, size in short.items())}" if budget.epochs else ""
    text = f"{budget.amount:g} {budget.unit}{rows_of} are less than one batch of {batch} examples"
    need = {"steps": 1, "examples": batch, "epochs": math.ceil(100 * batch / min(short.values())) / 100}
    fix = f"give at least {need[budget.unit]:g} {budget.unit}, or lower tuning.batch_size"
    return [error("budget-too-small", text, "pool_budget", fix)]


def _rounded(config: StudyConfig, setting: Setting) -> list[Finding]:
    """A budget in examples that is no whole number of batches."""
    spent = setting.budget * setting.batch_size
    if config.budget.examples in (None, spent):
        return []
    batches = f"{setting.budget} whole batches of {setting.batch_size}"
    return [note("budget-rounded", f"{config.budget.examples} examples are {batches}: {spent} are spent", "budget")]


def _trials(config: StudyConfig, setting: Setting) -> list[Finding]:
    """What several learning rates make of the budget."""
    if setting.search is not None:
        return [_searches(config, setting)]
    if len(setting.rates) < 2:
        return []
    rates, budget = listed(f"{rate:g}" for rate in setting.rates), setting.budget * setting.batch_size
    text = (
        f"every tuning of an arm is done at {rates}, and the best by its own validation rows goes on: each tuned arm "
        f"spends {len(setting.rates)} x {budget} examples a seed, whatever its order; the pool is made at "
        f"{config.tuning.learning_rate:g}"
    )
    return [note("learning-rate-trials", text, "learning_rates")]


def _searches(config: StudyConfig, setting: Setting) -> Finding:
    """What a search over settings makes of the budget."""
    assert setting.search is not None
    search, budget = setting.search, setting.budget * setting.batch_size
    upto = "at most " if search["pruning"] else ""
    text = (
        f"every tuning of an arm is a search over {listed(search['space'])} with {search['trials']} trials, by its own "
        f"validation rows: each tuned arm spends {upto}{search['trials']} x {budget} examples a seed, whatever its "
        "order; the pool is made with `tuning`"
    )
    pruned = "; a pruned trial costs what it used, so arms may spend differently: see their examples"
    return note("tuning-search", text + pruned * bool(search["pruning"]), "tuning_search")


def _unequal_budgets(plan: StudyPlan) -> list[Finding]:
    """Arms that should spend the budget, with all that is tried, and don't, within 1%."""
    found = []
    for arm in plan.arms:
        if arm.strategy.spends != "budget":
            continue
        for seed, setting in plan.settings.items():
            budget = (
                setting.budget
                * setting.batch_size
                * max(1, len(setting.rates))
                * (setting.search or {}).get("trials", 1)
            )
            spent = plan.examples(arm, seed)
            if abs(spent - budget) > 0.01 * budget:
                found.append(
                    error("unequal-budget", f"{arm.name} would spend {spent} examples of {budget}", "budget",
                          "a strategy spends its whole budget, or says spends='more' or 'nothing'")
                )  # fmt: skip
                break
    return found
