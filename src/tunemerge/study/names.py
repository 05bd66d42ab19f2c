"""Names that a study file uses and nobody knows, each with its key and near names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunemerge.findings import Finding, error, note
from tunemerge.merge.method import METHODS
from tunemerge.plugins import load_plugins
from tunemerge.registry import Registry, listed, nearest
from tunemerge.stats.metrics import BOTH, METRICS, metrics_of
from tunemerge.strategies.strategy import STRATEGIES
from tunemerge.study.config import StudyConfig
from tunemerge.study.written import written_findings
from tunemerge.tasks.task import TASKS

_REGISTERED: tuple[tuple[str, Registry[Any]], ...] = (
    ("strategies", STRATEGIES),
    ("methods", METHODS),
    ("task", TASKS),
    ("metric", METRICS),
)


def plugin_findings(config: StudyConfig, folder: Path) -> list[Finding]:
    """Load the study's plug-ins; those that can't be, and the entry points of installed packages that can't be."""
    paths = {f"plugins.{i}": folder / Path(p).expanduser() for i, p in enumerate(config.plugins)}
    found = load_plugins(paths)
    for _, registry in _REGISTERED:
        registry.names()
        found += registry.problems
    for key, registry, name in _registered(config):
        plugin = registry.plugin(name) if name in registry else None
        if plugin is not None and plugin.package is None and plugin.path not in {p.resolve() for p in paths.values()}:
            text = f"the {registry.kind} {name!r} is of {plugin}, which `plugins` does not name"
            found.append(error("plugin-not-named", text, key, "the study alone must say what it runs: name the file"))
    for key, path in paths.items():
        brought = [f"{r.kind} {name}" for _, r in _REGISTERED for name in r.brought(path.resolve())]
        if brought:
            found.append(note("plugin", f"brings {listed(brought)}", f"{key} ({path.name})"))
    return found


def _registered(config: StudyConfig) -> list[tuple[str, Registry[Any], str]]:
    """The names that registries must know, with their keys."""
    return [
        *((f"strategies.{i}", STRATEGIES, n) for i, n in enumerate(config.strategies or []) if isinstance(n, str)),
        *((f"methods.{i}", METHODS, n) for i, n in enumerate(config.methods)),
        ("task", TASKS, config.task),
        *((f"tasks.{n}.kind", TASKS, str(t.kind)) for n, t in config.tasks.items() if t.kind != config.task),
        ("metric", METRICS, config.metric),
    ]


def is_registered_name(finding: Finding) -> bool:
    """Whether it is about a name that a plug-in could have brought."""
    first, last = finding.where.split(".")[0], finding.where.split(".")[-1]
    return finding.code == "unknown-name" and (first in dict(_REGISTERED) or (first, last) == ("tasks", "kind"))


def unknown_names(config: StudyConfig, left_out: frozenset[str] = frozenset()) -> list[Finding]:
    """Strategies, methods, kinds of task, metrics and tasks that the study names and nobody knows.

    `left_out` are tasks that the file has and `config` doesn't.
    """
    found = []
    for key, registry, name in _registered(config):
        if name not in registry:
            hint = nearest(name, registry.names())
            fix = "" if config.plugins else "for one of your own, name its file under `plugins`"
            found.append(error("unknown-name", f"unknown {registry.kind} {name!r}{hint}", key, fix))
        elif registry.by_hand(name):
            text = f"the {registry.kind} {name!r} was registered in this process alone, in {registry.origin(name)}"
            found.append(
                error("by-hand", text, key, "name its file under `plugins`: what runs the steps loads it then")
            )
    found += written_findings(config, left_out)
    found += _metric_fits(config)
    tasks = [
        *((f"{key}.{i}", n) for key in ("retention", "unseen") for i, n in enumerate(getattr(config, key))),
        *([("target", config.target)] if config.target else []),
    ]
    if config.incumbent and not isinstance(config.incumbent.predictions, str):
        tasks += [(f"incumbent.predictions.{name}", name) for name in config.incumbent.predictions]
    known = list(dict.fromkeys([*config.tasks, *sorted(left_out)]))
    for key, name in tasks:
        if name not in known:
            found.append(error("unknown-name", f"unknown task {name!r}{nearest(name, known)}", key))
    for role, others in (("retention", [config.target]), ("unseen", [config.target, *config.retention])):
        for name in set(getattr(config, role)) & set(others):
            found.append(error("two-roles", f"{name!r} can't be both in {role!r} and elsewhere", role))
    if set(config.tasks) <= {*config.retention, *config.unseen} and not left_out:
        found.append(error("no-task", "every task is only evaluated; leave one to adapt to", "tasks"))
    return found


def _metric_fits(config: StudyConfig) -> list[Finding]:
    """The metric scores what the tasks predict, and it is known which difference of it is small."""
    kinds = {name: TASKS[str(t.kind)] for name, t in config.tasks.items() if str(t.kind) in TASKS}
    if config.metric not in METRICS or not kinds:
        return []
    metric = METRICS[config.metric]
    other = next((name for name, kind in kinds.items() if not metric.scores(kind.prediction)), None)
    if other is not None:
        mixed = len({kind.prediction for kind in kinds.values()}) > 1
        fits = BOTH if mixed else ", ".join(metrics_of(kinds[other].prediction))
        text = f"{metric.name} does not score what {other} predicts ({kinds[other].name}); {fits} do"
        return [error("metric-unfit", text, "metric", "name one of them")]
    if metric.has_unit and "margin" not in config.model_fields_set:
        text = f"{metric.name} is in the unit of the data, so a margin of {config.margin:g} may be much or nothing"
        return [error("margin-unit", text, "metric", "say which difference matters in practice: `margin:`")]
    return []
