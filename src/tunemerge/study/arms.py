"""Arms: every strategy read with every merge method, for every seed; those that can't be had, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.findings import Finding, error
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.merge.method import METHODS
from tunemerge.strategies.setting import (
    Answer,
    BudgetError,
    Ensemble,
    Merging,
    PerTask,
    Setting,
    UnavailableError,
)
from tunemerge.strategies.strategy import STRATEGIES, Strategy
from tunemerge.study.config import StudyConfig
from tunemerge.study.setting import is_classifier
from tunemerge.tasks.task import TASKS

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


def build_arms(
    config: StudyConfig, settings: Mapping[int, Setting]
) -> tuple[list[Arm], list[tuple[str, str]], list[Finding]]:
    """(arms, [(name, why it can't be had)], findings) of all strategies that the study asks for."""
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
    return is_classifier(open_checkpoint(leaf.path).config)
