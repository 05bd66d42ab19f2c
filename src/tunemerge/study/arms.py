"""Arms: every strategy read with every merge method, for every seed; those that can't be had, with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from tunemerge.findings import Finding, error
from tunemerge.graph.plan import Plan
from tunemerge.graph.private import pooling
from tunemerge.graph.step import Node, Step
from tunemerge.merge.method import METHODS
from tunemerge.registry import listed, nearest
from tunemerge.stats.fewest import fewest
from tunemerge.strategies.setting import (
    Answer,
    BudgetError,
    Ensemble,
    Fitted,
    Merging,
    PerTask,
    Setting,
    UnavailableError,
    UnpairedError,
)
from tunemerge.strategies.strategy import STRATEGIES, Strategy
from tunemerge.strategies.written import WrittenStrategy, as_strategy
from tunemerge.study.config import StudyConfig
from tunemerge.study.heads import STATISTICS, has_head, has_statistics, head_names
from tunemerge.tasks.task import TASKS, KindControl

# Where two arms are the same graph, the first of these roles gives it its name: "joint" rather than a merge of one.
_ROLE_ORDER = {"alternative": 0, "order": 1, "control": 2}

# The question that the project asks; other orders are compared after these two.
MAIN = ("merge_then_tune", "tune_then_merge")

# Where the search for a budget that is enough ends, for strategies that none is enough for.
_MOST_STEPS = 2**20


@dataclass(frozen=True)
class Arm:
    """One strategy with one merge method (or one model of the pool), and its answer for every seed.

    `method` is None where nothing is merged, and where the method is chosen for each seed.
    """

    name: str
    strategy: Strategy
    method: str | None
    answers: Mapping[int, Answer]

    @cached_property
    def ceiling(self) -> bool:
        """Whether it pools the rows of private tasks, so that nobody may have it."""
        if any(isinstance(a, Fitted) and a.ceiling for a in self.answers.values()):
            return True
        nodes = [n for seed in self.answers for n in self.nodes(seed)]
        return bool(pooling(Plan.of(n for n in nodes if isinstance(n, Step))))

    def model(self, seed: int, task: str) -> tuple[Node, ...]:
        """The models that answer a task: one, or several whose predictions are averaged."""
        answer = self.answers[seed]
        if isinstance(answer, Fitted):
            return ()
        if isinstance(answer, Ensemble):
            return answer.models
        if isinstance(answer, PerTask):
            return (answer.models[task],) if task in answer.models else tuple(answer.models.values())
        return (answer,)

    def nodes(self, seed: int) -> tuple[Node, ...]:
        answer = self.answers[seed]
        if isinstance(answer, Fitted):
            return ()
        if isinstance(answer, Ensemble | PerTask):
            models = answer.models.values() if isinstance(answer, PerTask) else answer.models
            return tuple(dict.fromkeys(models))
        return (answer,)

    @property
    def deliverable(self) -> bool:
        return not any(isinstance(a, Ensemble | PerTask | Fitted) for a in self.answers.values())


class Variant(NamedTuple):
    """An arm before it is built: a strategy with what it is read with, a model of the pool or merge methods (several:
    each merge has the best of them)."""

    strategy: Strategy
    name: str
    methods: tuple[str, ...]
    pool_model: str | None


def build_arms(
    config: StudyConfig, settings: Mapping[int, Setting]
) -> tuple[list[Arm], list[tuple[str, str]], list[Finding]]:
    """(arms, [(name, why it can't be had)], findings) of all strategies that the study asks for."""
    arms: list[Arm] = []
    unavailable: list[tuple[str, str]] = []
    too_dear: list[str] = []
    unpaired = False
    by_graph: dict[tuple[str, ...], str] = {}
    variants = [v for s in asked_for(config) for v in _variants(s, config, settings)]
    for variant in variants:
        strategy, name, methods, _ = variant
        refused: dict[str, str] = {}
        try:
            answers = {seed: _read(variant, config, setting, refused) for seed, setting in settings.items()}
        except BudgetError:
            too_dear.append(name)
            continue
        except UnavailableError as e:
            unpaired |= isinstance(e, UnpairedError)
            unavailable.append((name, str(e)))
            continue
        unavailable += [(f"{name}/{method}", why) for method, why in refused.items()]
        able = [m for m in methods if m not in refused]
        arm = Arm(name, strategy, able[0] if len(able) == 1 else None, answers)
        graph = tuple(k for seed in settings for k in (type(answers[seed]).__name__, *_keys(arm.nodes(seed))))
        if graph in by_graph:
            unavailable.append((name, f"the same graph as {by_graph[graph]}: reported as that arm"))
            continue
        by_graph[graph] = name
        arms.append(arm)
    controls, without = _controls(config, settings)
    arms += controls
    unavailable += without
    found = _strangers(config) if unpaired else []
    if too_dear:
        found.append(_budget_too_small(variants, too_dear, config, next(iter(settings.values()))))
    return arms, unavailable, found


def _controls(config: StudyConfig, settings: Mapping[int, Setting]) -> tuple[list[Arm], list[tuple[str, str]]]:
    """The simple models that the kind of task adds to every study, fitted to all training rows of a seed, or to each
    task's own."""
    setting = next(iter(settings.values()))
    kinds = dict.fromkeys(spec.kind for spec in setting.specs.values()) or [setting.task["task"]["kind"]]
    arms, unavailable = [], []
    for name, control in [one for kind in kinds for one in TASKS[kind].controls.items()]:
        if setting.specs:
            unavailable.append((name, "it answers one head, and the tasks have several"))
            continue
        pooled = len(config.private) > 1 and not control.own
        without = [*config.retention, *config.unseen]
        if pooled and not config.ceilings:
            unavailable.append((name, "it would pool the rows of private tasks"))
            continue
        if control.own and without:
            unavailable.append((name, f"no training rows of {listed(without)}"))
            continue
        strategy = Strategy(name, _fitting(name, control, pooled), "control", None, False, False, "nothing")
        arms.append(Arm(name, strategy, None, {seed: strategy.build(s) for seed, s in settings.items()}))
    return arms, unavailable


def _fitting(name: str, control: KindControl, ceiling: bool) -> Callable[[Setting], Answer]:
    def build(setting: Setting) -> Answer:
        return Fitted(name, control.version, setting.each if control.own else setting.everything, ceiling)

    build.__doc__ = control.description
    return build


def asked_for(config: StudyConfig) -> list[Strategy]:
    """The strategies that the study runs; the first two are those of the project's question.

    Without a list those of this package: what a person has installed, or loaded before, changes no study.
    """
    own = [(name, s) for name, s in STRATEGIES if STRATEGIES.origin(name).built_in]
    default = [name for name, s in own if not s.for_private or len(config.private) > 1]
    asked = default if config.strategies is None else config.strategies
    strategies = [as_strategy(one) if isinstance(one, WrittenStrategy) else STRATEGIES[one] for one in asked]
    return sorted(strategies, key=lambda s: (_ROLE_ORDER[s.role], s.name not in MAIN, s.name))


def _strangers(config: StudyConfig) -> list[Finding]:
    """Models of the pool whose name is no task's, where a strategy needs that."""
    names = [name for name in config.pool if name not in config.tasks]
    fix = "call each model of the pool as its task, or name the one `target`"
    return [
        error("no-such-task", f"no task of this name{nearest(name, list(config.tasks))}", f"pool.{name}", fix)
        for name in names
    ]


def _budget_too_small(variants: list[Variant], arms: list[str], config: StudyConfig, setting: Setting) -> Finding:
    """What the budget amounts to, for which arms it is too small, and the smallest that all of them can be had with."""

    def enough(steps: int) -> bool:
        for variant in variants:
            try:
                _read(variant, config, replace(setting, budget=steps))
            except BudgetError:
                return False
            except UnavailableError:
                continue
        return True

    need_steps = fewest(enough, most=_MOST_STEPS)
    budget, batch = config.budget, setting.batch_size
    have = f"{setting.budget} optimizer step{'s' * (setting.budget != 1)} of {batch} examples"
    if budget.unit != "steps":
        have = have if setting.budget else f"less than one batch of {batch} examples"
        have = f"{budget.amount:g} {budget.unit} are {have}"
    text = f"{have}: too few for {listed(dict.fromkeys(name.split('/')[0] for name in arms))}"
    rows = sum(r.size for r in setting.adapt.values())
    examples = need_steps * batch
    need = {"steps": need_steps, "examples": examples, "epochs": math.ceil(100 * examples / max(rows, 1)) / 100}
    fix = f"give at least {need[budget.unit]:g} {budget.unit}, or lower tuning.batch_size"
    return error("budget-too-small", text, "budget", fix)


def _keys(nodes: tuple[Node, ...]) -> list[str]:
    return [n.key for n in nodes]


def _variants(strategy: Strategy, config: StudyConfig, settings: Mapping[int, Setting]) -> Iterator[Variant]:
    """Every arm of a strategy."""
    setting = next(iter(settings.values()))
    if strategy.merges:
        each = [Variant(strategy, f"{strategy.name}/{m}", (m,), None) for m in config.methods]
        before = config.choose_method == "before_tuning" and any(_tunes_its_merge(v, config, setting) for v in each)
        yield from [Variant(strategy, strategy.name, tuple(config.methods), None)] if before else each
    elif strategy.each_of_pool:
        yield from (Variant(strategy, f"{strategy.name}/{p}", (), p) for p in setting.pool)
    else:
        yield Variant(strategy, strategy.name, (), None)


def _tunes_its_merge(variant: Variant, config: StudyConfig, setting: Setting) -> bool:
    """Whether the answer is made from merges and is none itself: then the best merge can be known before it is made."""
    try:
        answer = _read(variant, config, setting)
    except UnavailableError:
        return False
    nodes = Arm("", variant.strategy, None, {0: answer}).nodes(0)
    return not any(isinstance(n, Step) and n.op == "merge" for n in nodes)


def _read(variant: Variant, config: StudyConfig, setting: Setting, refused: dict[str, str] | None = None) -> Answer:
    """The strategy's answer. Methods that can't merge what it asks for are put into `refused`, unless none can."""
    strategy, _, methods, pool_model = variant

    def merging(models: int) -> list[Merging] | str:
        found = {m: _merging(m, config, setting, models) for m in methods}
        able = [m for m in found.values() if isinstance(m, Merging)]
        problems = {name: why for name, why in found.items() if isinstance(why, str)}
        if able and refused is not None:
            refused.update(problems)
        return able or "; ".join(dict.fromkeys(problems.values()))

    if methods:
        setting = replace(setting, merging=merging)
    return strategy.build(setting, pool_model) if pool_model else strategy.build(setting)


def _merging(method_name: str, config: StudyConfig, setting: Setting, models: int) -> Merging | str:
    method = METHODS[method_name]
    refusal = method.refuses(models, config.base is not None)
    if refusal:
        return refusal
    # Heads of experts from elsewhere did not start from the fresh head that this study gives its base.
    foreign_heads = config.pool and not has_head(setting)
    heads = head_names(setting) if foreign_heads else ()
    average = (*heads, *(STATISTICS if has_statistics(setting) else ()))
    return Merging(method_name, tuple(method.grid(models, config.candidates)), average)
