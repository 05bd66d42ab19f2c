"""`tunemerge list`: what is registered, with the first line of what it says about itself."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.table import Table

from tunemerge.cli.bar import print_findings
from tunemerge.cli.output import answer, print_table, screen
from tunemerge.errors import UsageError
from tunemerge.plugin_code import Plugin
from tunemerge.registry import Registry, nearest

KINDS = ["strategies", "methods", "tasks", "metrics"]


def show_list(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, KINDS)}")
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("paper", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    registry = registry_of(kind)
    rows = [(*row, _place(registry.plugin(row[0]))) for row in _rows(kind)]
    plugged = any(row[-1] for row in rows)
    if plugged:
        table.add_column("from", overflow="fold")
    for row in rows:
        table.add_row(*(row if plugged else row[:-1]))
    print_table(screen(), table)
    print_findings(registry.problems, screen())
    answer(kind=kind, rows=[dict(zip(("name", "paper", "what", "plugin"), row, strict=True)) for row in rows])


def registry_of(kind: str) -> Registry[Any]:
    """The registry of a kind, by its name in the plural."""
    if kind == "strategies":
        from tunemerge.strategies.strategy import STRATEGIES

        return STRATEGIES
    if kind == "methods":
        from tunemerge.merge.method import METHODS

        return METHODS
    if kind == "tasks":
        from tunemerge.tasks.task import TASKS

        return TASKS
    from tunemerge.stats.metrics import METRICS

    return METRICS


def show_methods_page(kind: str) -> None:
    if kind != "methods":
        raise UsageError(f"--markdown is for methods, not {kind}")
    from tunemerge.merge.page import methods_page

    print(methods_page())


def _rows(kind: str) -> list[tuple[str, str, str]]:
    every = list(registry_of(kind))
    if kind == "strategies":
        return [(name, s.paper or "", f"{s.description} ({s.role})") for name, s in every]
    if kind == "methods":
        return [(name, _short(m.paper), m.summary) for name, m in every]
    if kind == "tasks":
        return [(name, "", (inspect.getdoc(type(t)) or "").splitlines()[0]) for name, t in every]
    return [(name, "", "higher is better" if m.higher_is_better else "lower is better") for name, m in every]


def _place(plugin: Plugin | None) -> str:
    """The plug-in's file, seen from here where it lies here; the package of an installed one."""
    if plugin is None:
        return ""
    here = plugin.path.is_relative_to(Path.cwd())
    return plugin.package or str(plugin.path.relative_to(Path.cwd()) if here else plugin.path)


def _short(paper: str) -> str:
    """A web address by its site alone; the whole of it stands on the methods page."""
    return urlsplit(paper).netloc or paper
