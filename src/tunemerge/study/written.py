"""What is wrong with strategies that a study file writes out as steps, each finding at its key."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tunemerge.findings import Finding, error
from tunemerge.registry import listed, nearest
from tunemerge.strategies.strategy import STRATEGIES
from tunemerge.strategies.written import BASE, MIX, POOL, WrittenStep, WrittenStrategy
from tunemerge.study.config import StudyConfig

# Shares are written with two digits: three thirds are .99.
_ENOUGH = 0.015


def written_findings(config: StudyConfig, left_out: frozenset[str] = frozenset()) -> list[Finding]:
    """Names that are taken or unknown, cycles, steps that lead nowhere, shares that don't add up.

    `left_out` are tasks and models that the file has and `config` doesn't.
    """
    found: list[Finding] = []
    for i, one in enumerate(config.strategies or []):
        if isinstance(one, WrittenStrategy):
            found += _of_one(one, f"strategies.{i}", config, left_out)
    return found


def _of_one(one: WrittenStrategy, key: str, config: StudyConfig, left_out: frozenset[str]) -> Iterator[Finding]:
    if one.name in STRATEGIES:
        text = f"there is a strategy {one.name!r} already, in {STRATEGIES.origin(one.name)}"
        yield error("name-taken", text, f"{key}.name", "give yours another name")
    models, rows = _models(config), _rows(config)
    for name, step in one.steps.items():
        yield from _unknown(one, name, step, f"{key}.steps.{name}", models, rows, left_out)
    cycle = one.cycle()
    if cycle:
        text = f"steps that wait for each other: {' <- '.join(cycle)}"
        yield error("steps-cycle", text, f"{key}.steps.{cycle[0]}")
    elif len(one.ends) > 1:
        text = f"{listed(one.ends)} are read by no other step; the answer is one step"
        yield error("steps-ends", text, f"{key}.steps", "leave out what nothing needs, or give it to a later step")
    yield from _shares(one, f"{key}.steps")


def _unknown(
    one: WrittenStrategy,
    name: str,
    step: WrittenStep,
    key: str,
    models: list[str],
    rows: list[str],
    left_out: frozenset[str],
) -> Iterator[Finding]:
    known = [*models, *(other for other in one.steps if other != name)]
    for at, model in step.models:
        where = f"{key}.{at}"
        if model == POOL and step.tune is None:
            continue
        if model == POOL:
            yield error("unknown-name", "the pool is several models", where, "name one: pool.NAME")
        elif model not in one.steps and model not in known and model.removeprefix(f"{POOL}.") not in left_out:
            yield error("unknown-name", f"unknown model {model!r}{nearest(model, known)}", where)
        elif model in one.steps and one.steps[model].ensemble:
            text = f"{model} is an ensemble: its predictions are averaged, so it is no model that another step can read"
            yield error("steps-ensemble", text, where)
    for i, task in enumerate(step.on):
        if task != MIX and task not in rows and task not in left_out:
            near = nearest(task, [MIX, *rows])
            yield error("unknown-name", f"no task {task!r} that arms are tuned on{near}", f"{key}.on.{i}")


def _shares(one: WrittenStrategy, key: str) -> Iterator[Finding]:
    total = math.fsum(one.shares.values())
    if one.shares and abs(total - 1) > _ENOUGH:
        parts = " + ".join(f"{share:g} of {name}" for name, share in one.shares.items())
        text = f"the shares of the budget add up to {total:g}, not 1: {parts}"
        yield error("steps-budget", text, key, "every arm spends the whole budget, or nothing")


def _models(config: StudyConfig) -> list[str]:
    """What a step may call a model: the base, and the pool that is given or made."""
    only_evaluated = {*config.retention, *config.unseen}
    made = [n for n, t in config.tasks.items() if "source" in {**t.splits, **t.files} and n not in only_evaluated]
    pool = list(config.pool) or (made if config.base else [])
    return [*([BASE] if config.base else []), *(f"{POOL}.{name}" for name in pool)]


def _rows(config: StudyConfig) -> list[str]:
    """The tasks that have adapt rows."""
    if config.target is not None:
        return [config.target]
    return [name for name in config.tasks if name not in {*config.retention, *config.unseen}]
