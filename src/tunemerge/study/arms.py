"""Arms: every strategy read with every merge method, for every seed; those that can't be had, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tunemerge.findings import Finding, error
from tunemerge.registry import listed, nearest
from tunemerge.strategies.adapters import folding
from tunemerge.strategies.setting import Answer, BudgetError, Fitted, Setting, UnavailableError, UnpairedError
from tunemerge.strategies.strategy import STRATEGIES, Strategy
from tunemerge.strategies.written import WrittenStrategy, as_strategy
from tunemerge.study.arm import Arm
from tunemerge.study.config import StudyConfig
from tunemerge.study.variants import budget_too_small, read, variants
from tunemerge.tasks.task import TASKS, KindControl

# Where two arms are the same graph, the first of these roles gives it its name: "joint" rather than a merge of one.
_ROLE_ORDER = {"alternative": 0, "order": 1, "control": 2}

# The question that the project asks; other orders are compared after these two.
MAIN = ("merge_then_tune", "tune_then_merge")


def build_arms(
    config: StudyConfig, settings: Mapping[int, Setting]
) -> tuple[list[Arm], list[tuple[str, str]], list[Finding]]:
    """(arms, [(name, why it can't be had)], findings) of all strategies that the study asks for."""
    arms: list[Arm] = []
    unavailable: list[tuple[str, str]] = []
    too_dear: list[str] = []
    unpaired = False
    by_graph: dict[tuple[str, ...], str] = {}
    asked = [v for s in asked_for(config) for v in variants(s, config, settings)]
    for variant in asked:
        strategy, name, methods, _ = variant
        refused: dict[str, str] = {}
        try:
            answers = {seed: read(variant, config, setting, refused) for seed, setting in settings.items()}
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
        if config.adapters == "keep" and (folds := _first_fold(arm)):
            unavailable.append((name, f"adapters: keep, and {folds} would fold adapters into the weights"))
            continue
        graph = tuple(k for seed in settings for k in (type(answers[seed]).__name__, *(n.key for n in arm.nodes(seed))))
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
        found.append(budget_too_small(asked, too_dear, config, next(iter(settings.values()))))
    return arms, unavailable, found


def _first_fold(arm: Arm) -> str | None:
    return next((method for seed in arm.answers if (method := folding(arm.nodes(seed)))), None)


def _controls(config: StudyConfig, settings: Mapping[int, Setting]) -> tuple[list[Arm], list[tuple[str, str]]]:
    """The simple models that the kind of task adds to every study, fitted to all training rows of a seed (of those
    that share a head, where there are several), or to each task's own. Tasks of several kinds are answered by what
    goes by one name in all of them."""
    setting = next(iter(settings.values()))
    kinds = dict.fromkeys(spec.kind for spec in setting.specs.values()) or [setting.task["task"]["kind"]]
    arms, unavailable = [], []
    for name, by_kind in _by_name(kinds).items():
        lacking = [kind for kind in kinds if kind not in by_kind]
        if lacking:
            unavailable.append(
                (name, f"it answers tasks of kind {listed(by_kind)}, and there are {listed(lacking)} too")
            )
            continue
        own = any(control.own for control in by_kind.values())
        pooled = len(config.private) > 1 and not own
        without = [*config.retention, *config.unseen]
        if pooled and not config.ceilings:
            unavailable.append((name, "it would pool the rows of private tasks"))
            continue
        if (own or setting.specs) and without:
            unavailable.append((name, f"no training rows of {listed(without)}"))
            continue
        description = " ".join(dict.fromkeys(control.description for control in by_kind.values()))
        build = _fitting(name, own, pooled, description)
        strategy = Strategy(name, build, "control", None, False, False, "nothing")
        arms.append(Arm(name, strategy, None, {seed: strategy.build(s) for seed, s in settings.items()}))
    return arms, unavailable


def _by_name(kinds: Iterable[str]) -> dict[str, dict[str, KindControl]]:
    """The installed controls of these kinds: what goes by one name answers each task in the way of its kind."""
    found: dict[str, dict[str, KindControl]] = {}
    for kind in kinds:
        for name, control in TASKS[kind].controls.items():
            if not control.installed:
                continue
            found.setdefault(name, {})[kind] = control
    return found


def _fitting(name: str, own: bool, ceiling: bool, description: str) -> Callable[[Setting], Answer]:
    def build(setting: Setting) -> Answer:
        pooled = setting.by_head if setting.specs else setting.everything
        return Fitted(name, setting.each if own else pooled, ceiling)

    build.__doc__ = description
    return build


def asked_for(config: StudyConfig) -> list[Strategy]:
    """The strategies that the study runs; the first two are those of the project's question.

    Without a list those of this package: strategies that a person has installed, or loaded before, change no study.
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
