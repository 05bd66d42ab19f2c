"""From a study file to the graph: every arm's steps for every seed, checked before anything expensive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tunemerge.study.operations  # noqa: F401  (registers the operations)
from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, error, note, refuse_errors
from tunemerge.graph.plan import Plan, refuse_test_leaks
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.merge.method import METHODS
from tunemerge.registry import Registry, nearest
from tunemerge.stats.metrics import METRICS
from tunemerge.store.digest import digest_folder
from tunemerge.strategies.setting import (
    Answer,
    BudgetError,
    Ensemble,
    Merging,
    PerTask,
    Rows,
    Setting,
    UnavailableError,
    predict,
)
from tunemerge.strategies.strategy import STRATEGIES, Strategy
from tunemerge.study.config import PoolModel, StudyConfig, line_of
from tunemerge.study.rows import StudyRows, TaskRows
from tunemerge.tasks.task import TASKS
from tunemerge.yamlfile import KeyPath, Lines

# Where two arms are the same graph, the first of these roles gives it its name: "joint" rather than a merge of one.
_ROLE_ORDER = {"alternative": 0, "order": 1, "control": 2}

# The question that the project asks; other orders are compared after these two.
_MAIN = ("merge_then_tune", "tune_then_merge")


@dataclass(frozen=True)
class Arm:
    """One strategy with one merge method (or one model of the pool), and its answer for every seed."""

    name: str
    strategy: Strategy
    method: str | None
    answers: Mapping[int, Answer]

    def model(self, seed: int, task: str) -> tuple[Node, ...]:
        """The models that answer a task: one, or several whose predictions are averaged."""
        answer = self.answers[seed]
        if isinstance(answer, Ensemble):
            return answer.models
        if isinstance(answer, PerTask):
            return (answer.models[task],) if task in answer.models else tuple(answer.models.values())
        return (answer,)

    def nodes(self, seed: int) -> tuple[Node, ...]:
        answer = self.answers[seed]
        if isinstance(answer, Ensemble | PerTask):
            models = answer.models.values() if isinstance(answer, PerTask) else answer.models
            return tuple(dict.fromkeys(models))
        return (answer,)

    @property
    def deliverable(self) -> bool:
        return not any(isinstance(a, Ensemble | PerTask) for a in self.answers.values())


@dataclass(frozen=True)
class StudyPlan:
    """What a run will do. `predictions` maps (arm, seed, task, split) to its predict step."""

    config: StudyConfig
    rows: StudyRows
    settings: Mapping[int, Setting]
    arms: tuple[Arm, ...]
    unavailable: tuple[tuple[str, str], ...]
    predictions: Mapping[tuple[str, int, str, str], Step]
    graph: Plan
    findings: tuple[Finding, ...]

    def with_findings(self, findings: list[Finding]) -> StudyPlan:
        return replace(self, findings=tuple(findings))

    def adaptation(self, arm: Arm, seed: int) -> list[Step]:
        """The steps that this arm adds to what existed: ancestors of its models, less those of base and pool."""
        setting = self.settings[seed]
        given = [n for n in (setting.base_model, *setting.pool.values()) if n is not None]
        existed = {s.key for s in ancestors(given)}
        return [s for s in ancestors(arm.nodes(seed)) if s.key not in existed]

    def examples(self, arm: Arm, seed: int) -> int:
        """Training examples that the arm spends on adaptation."""
        return sum(s.params["examples"] for s in self.adaptation(arm, seed) if s.op == "tune")


def ancestors(nodes: Iterator[Node] | tuple[Node, ...] | list[Node]) -> list[Step]:
    """The steps among `nodes` and everything above them, inputs before what uses them, each once."""
    seen: dict[str, Step] = {}

    def visit(node: Node) -> None:
        if isinstance(node, Leaf) or node.key in seen:
            return
        for parent in node.parents():
            visit(parent)
        seen[node.key] = node

    for node in nodes:
        visit(node)
    return list(seen.values())


def locate_models(config: StudyConfig, folder: Path) -> tuple[dict[str, Leaf], list[Finding]]:
    """The study's base (under "base") and given checkpoints (under their names), and those that aren't there."""
    found: list[Finding] = []
    leaves = {}
    asked = {"base": config.base} if config.base else {}
    asked |= {n: m.model if isinstance(m, PoolModel) else m for n, m in config.pool.items()}
    for name, model in asked.items():
        try:
            path = locate(model, folder)
            leaves[name] = Leaf(digest_folder(path)[0], path, "model", name)
        except TunemergeError as e:
            found.append(error("no-such-model", str(e), name))
    if not asked:
        found.append(error("no-model", "a study needs a `base`, or a `pool` of checkpoints", "base"))
    if "base" in config.pool:
        found.append(error("reserved-name", "a model of the pool can't be called 'base'", "pool.base"))
    return leaves, found


def make_plan(config: StudyConfig, rows: StudyRows, base: Leaf | None, given: Mapping[str, Leaf]) -> StudyPlan:
    """Build the graph. Raises FindingsError with everything that makes it impossible."""
    found: list[Finding] = []
    settings = {seed: _setting(config, rows, seed, base, given) for seed in config.seed_list}
    arms, unavailable, problems = _arms(config, settings)
    found += problems
    refuse_errors(found)
    found += [note("arm-unavailable", reason, name) for name, reason in unavailable]
    evaluated = [t for t in rows.tasks.values() if t.role != "source"]
    predictions = {
        (arm.name, seed, t.name, split): predict(
            arm.model(seed, t.name), t.parts[seed][split], settings[seed].scoring, final=split == "test"
        )
        for seed in settings
        for arm in arms
        for t in evaluated
        for split in (("validation", "test") if t.role in ("task", "target") else ("test",))
    }
    graph = Plan.of(ancestors(list(predictions.values())))
    plan = StudyPlan(config, rows, settings, tuple(arms), tuple(unavailable), predictions, graph, ())
    found += _unequal_budgets(plan)
    refuse_errors(found)
    refuse_test_leaks(graph)
    return replace(plan, findings=tuple(found))


def _setting(config: StudyConfig, rows: StudyRows, seed: int, base: Leaf | None, given: Mapping[str, Leaf]) -> Setting:
    tuning = config.tuning.model_dump(mode="json")
    task = {"task": config.task, "labels": list(rows.labels)}

    def init(leaf: Leaf | None, name: str) -> Step | None:
        params = {**task, "seed": seed, "dropout": tuning["dropout"]}
        return Step("init", params, {"model": (leaf,)}, f"init {name}") if leaf else None

    start = init(base, "base")
    adapt = {n: _rows(t, seed, "adapt") for n, t in rows.tasks.items() if t.role in ("task", "target")}
    source = {
        n: _rows(t, seed, "source")
        for n, t in rows.tasks.items()
        if "source" in t.parts[seed] and t.role in ("task", "target", "source")
    }
    setting = Setting(
        seed=seed,
        base_model=start,
        pool={},
        adapt=adapt,
        source=source,
        target=config.target,
        budget=config.budget.in_steps(config.tuning.batch_size, sum(r.size for r in adapt.values())),
        batch_size=config.tuning.batch_size,
        pool_examples=0,
        task=task,
        tuning=tuning,
        metric=config.metric,
    )
    if given:
        pool: dict[str, Node] = {n: s for n, leaf in given.items() if (s := init(leaf, n)) is not None}
        known = [m.examples for m in config.pool.values() if isinstance(m, PoolModel) and m.examples is not None]
        return replace(setting, pool=pool, source={}, pool_examples=sum(known))
    if start is None:
        return setting
    steps = {n: config.pool_budget.in_steps(setting.batch_size, r.size) for n, r in source.items()}
    pool = {n: setting.tune(start, r, steps[n]) for n, r in source.items()}
    return replace(setting, pool=pool, pool_examples=sum(steps.values()) * setting.batch_size)


def _rows(task: TaskRows, seed: int, split: str) -> Rows:
    parts = task.parts[seed]
    return Rows(f"{task.name} {split}", (parts[split],), (parts["validation"],), task.sizes[split])


def _merging(method_name: str, config: StudyConfig, setting: Setting, models: int) -> Merging | str:
    method = METHODS[method_name]
    refusal = method.refuses(models, config.base is not None)
    if refusal:
        return refusal
    # Heads of experts from elsewhere did not start from the fresh head that this study gives its base.
    foreign_heads = config.pool and not _has_head(setting)
    average = TASKS[config.task].head_names if foreign_heads else ()
    return Merging(method_name, tuple(method.grid(models, config.candidates)), average)


def _has_head(setting: Setting) -> bool:
    """Whether the study's base is a classifier already."""
    if not isinstance(setting.base_model, Step):
        return False
    (leaf,) = setting.base_model.inputs["model"]
    assert isinstance(leaf, Leaf)
    return any("For" in name for name in open_checkpoint(leaf.path).config.get("architectures") or [])


def _arms(
    config: StudyConfig, settings: Mapping[int, Setting]
) -> tuple[list[Arm], list[tuple[str, str]], list[Finding]]:
    found: list[Finding] = []
    names = config.strategies if config.strategies is not None else STRATEGIES.names()
    strategies = sorted(
        (STRATEGIES[n] for n in names), key=lambda s: (_ROLE_ORDER[s.role], s.name not in _MAIN, s.name)
    )
    arms: list[Arm] = []
    unavailable: list[tuple[str, str]] = []
    by_graph: dict[tuple[str, ...], str] = {}
    for strategy in strategies:
        for name, method, pool_model in _variants(strategy, config, settings):
            try:
                answers = {
                    seed: _read(strategy, _with_method(s, method, config), pool_model) for seed, s in settings.items()
                }
            except BudgetError as e:
                found.append(
                    error("budget-too-small", f"{name}: {e}", "budget", "raise the budget or lower tuning.batch_size")
                )
                continue
            except UnavailableError as e:
                unavailable.append((name, str(e)))
                continue
            arm = Arm(name, strategy, method, answers)
            graph = tuple(k for seed in settings for k in (type(answers[seed]).__name__, *_keys(arm.nodes(seed))))
            if graph in by_graph:
                unavailable.append((name, f"the same graph as {by_graph[graph]}: reported as that arm"))
                continue
            by_graph[graph] = name
            arms.append(arm)
    return arms, unavailable, found


def _keys(nodes: tuple[Node, ...]) -> list[str]:
    return [n.key for n in nodes]


def _variants(
    strategy: Strategy, config: StudyConfig, settings: Mapping[int, Setting]
) -> Iterator[tuple[str, str | None, str | None]]:
    """(name of the arm, merge method, model of the pool) for each arm of a strategy."""
    if strategy.merges:
        yield from ((f"{strategy.name}/{m}", m, None) for m in config.methods)
    elif strategy.each_of_pool:
        pool = next(iter(settings.values())).pool
        yield from ((f"{strategy.name}/{p}", None, p) for p in pool)
    else:
        yield strategy.name, None, None


def _with_method(setting: Setting, method: str | None, config: StudyConfig) -> Setting:
    if method is None:
        return setting
    return replace(setting, merging=lambda models: _merging(method, config, setting, models))


def _read(strategy: Strategy, setting: Setting, pool_model: str | None) -> Answer:
    return strategy.build(setting, pool_model) if pool_model else strategy.build(setting)


def _unequal_budgets(plan: StudyPlan) -> list[Finding]:
    """Arms that should spend the budget and don't, within 1%."""
    found = []
    for arm in plan.arms:
        if arm.strategy.spends != "budget":
            continue
        for seed, setting in plan.settings.items():
            spent, budget = plan.examples(arm, seed), setting.budget * setting.batch_size
            if abs(spent - budget) > 0.01 * budget:
                found.append(
                    error("unequal-budget", f"{arm.name} would spend {spent} examples of {budget}", "budget",
                          "a strategy spends its whole budget, or says spends='more' or 'nothing'")
                )  # fmt: skip
                break
    return found


def unknown_names(config: StudyConfig, lines: Lines, file: str) -> list[Finding]:
    """Strategies, methods, kinds of task, metrics and tasks that the study names and nobody knows."""
    found = []
    registered: list[tuple[KeyPath, Registry[Any], str]] = [
        *((("strategies", i), STRATEGIES, n) for i, n in enumerate(config.strategies or [])),
        *((("methods", i), METHODS, n) for i, n in enumerate(config.methods)),
        (("task",), TASKS, config.task),
        (("metric",), METRICS, config.metric),
    ]
    for key, registry, name in registered:
        if name not in registry:
            hint = nearest(name, registry.names())
            found.append(error("unknown-name", f"unknown {registry.kind} {name!r}{hint}", line_of(lines, key, file)))
    tasks = [
        *(((key, i), n) for key in ("retention", "unseen") for i, n in enumerate(getattr(config, key))),
        *([(("target",), config.target)] if config.target else []),
    ]
    for key, name in tasks:
        if name not in config.tasks:
            hint = nearest(name, list(config.tasks))
            found.append(error("unknown-name", f"unknown task {name!r}{hint}", line_of(lines, key, file)))
    return found
