"""The arms of a strategy before they are built: which there are, what each reads, how large a budget they need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from tunemerge.findings import Finding, error
from tunemerge.graph.step import Step
from tunemerge.merge.method import METHODS
from tunemerge.registry import listed
from tunemerge.stats.fewest import fewest
from tunemerge.strategies.setting import Answer, BudgetError, Merging, Setting, UnavailableError
from tunemerge.strategies.strategy import Strategy
from tunemerge.study.arm import Arm
from tunemerge.study.config import StudyConfig
from tunemerge.study.heads import STATISTICS, has_head, has_statistics, head_names

# Where the search for a budget that is enough ends, for strategies that none is enough for.
_MOST_STEPS = 2**20


class Variant(NamedTuple):
    """An arm before it is built: a strategy with what it is read with, a model of the pool or merge methods (several:
    each merge has the best of them)."""

    strategy: Strategy
    name: str
    methods: tuple[str, ...]
    pool_model: str | None


def variants(strategy: Strategy, config: StudyConfig, settings: Mapping[int, Setting]) -> Iterator[Variant]:
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
        answer = read(variant, config, setting)
    except UnavailableError:
        return False
    nodes = Arm("", variant.strategy, None, {0: answer}).nodes(0)
    return not any(isinstance(n, Step) and n.op == "merge" for n in nodes)


def read(variant: Variant, config: StudyConfig, setting: Setting, refused: dict[str, str] | None = None) -> Answer:
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


def budget_too_small(asked: list[Variant], arms: list[str], config: StudyConfig, setting: Setting) -> Finding:
    """What the budget amounts to, for which arms it is too small, and the smallest that all of them can be had with."""

    def enough(steps: int) -> bool:
        for variant in asked:
            try:
                read(variant, config, replace(setting, budget=steps))
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
