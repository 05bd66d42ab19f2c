"""Names that a study file uses and nobody knows, each with its line and near names."""

from __future__ import annotations

from typing import Any

from tunemerge.findings import Finding, error
from tunemerge.merge.method import METHODS
from tunemerge.registry import Registry, nearest
from tunemerge.stats.metrics import METRICS
from tunemerge.strategies.strategy import STRATEGIES
from tunemerge.study.config import StudyConfig, line_of
from tunemerge.tasks.task import TASKS
from tunemerge.yamlfile import KeyPath, Lines


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
    for role, others in (("retention", [config.target]), ("unseen", [config.target, *config.retention])):
        for name in set(getattr(config, role)) & set(others):
            text = f"{name!r} can't be both in {role!r} and elsewhere"
            found.append(error("two-roles", text, line_of(lines, (role,), file)))
    if set(config.tasks) <= {*config.retention, *config.unseen}:
        text = "every task is only evaluated; leave one to adapt to"
        found.append(error("no-task", text, line_of(lines, ("tasks",), file)))
    return found
