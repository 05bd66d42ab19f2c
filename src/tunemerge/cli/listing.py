"""`tunemerge list`: what is registered, with the first line of what it says about itself."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.table import Table

from tunemerge.errors import UsageError
from tunemerge.registry import nearest

KINDS = ["strategies", "methods", "tasks", "metrics"]


def show_list(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, KINDS)}")
    table = Table(box=None, pad_edge=False)
    for name in ("name", "paper", "what it is"):
        table.add_column(name, overflow="fold")
    for row in _rows(kind):
        table.add_row(*row)
    Console().print(table)


def _rows(kind: str) -> list[tuple[str, str, str]]:
    if kind == "strategies":
        from tunemerge.strategies.strategy import STRATEGIES

        return [(name, s.paper or "", f"{s.description} ({s.role})") for name, s in STRATEGIES]
    if kind == "methods":
        from tunemerge.merge.method import METHODS

        return [(name, m.paper or "", m.summary) for name, m in METHODS]
    if kind == "tasks":
        from tunemerge.tasks.task import TASKS

        return [(name, "", (inspect.getdoc(type(t)) or "").splitlines()[0]) for name, t in TASKS]
    from tunemerge.stats.metrics import METRICS

    return [(name, "", "higher is better" if m.higher_is_better else "lower is better") for name, m in METRICS]
