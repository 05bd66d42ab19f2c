"""`tunemerge list`: what is registered, with the first line of what it says about itself."""

from __future__ import annotations

import inspect
from urllib.parse import urlsplit

from rich.table import Table

from tunemerge.cli.output import answer, screen
from tunemerge.errors import UsageError
from tunemerge.registry import nearest

KINDS = ["strategies", "methods", "tasks", "metrics"]


def show_list(kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, KINDS)}")
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("paper", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    rows = _rows(kind)
    for row in rows:
        table.add_row(*row)
    screen().print(table)
    answer(kind=kind, rows=[dict(zip(("name", "paper", "what"), row, strict=True)) for row in rows])


def show_methods_page(kind: str) -> None:
    if kind != "methods":
        raise UsageError(f"--markdown is for methods, not {kind}")
    from tunemerge.merge.page import methods_page

    print(methods_page())


def _rows(kind: str) -> list[tuple[str, str, str]]:
    if kind == "strategies":
        from tunemerge.strategies.strategy import STRATEGIES

        return [(name, s.paper or "", f"{s.description} ({s.role})") for name, s in STRATEGIES]
    if kind == "methods":
        from tunemerge.merge.method import METHODS

        return [(name, _short(m.paper), m.summary) for name, m in METHODS]
    if kind == "tasks":
        from tunemerge.tasks.task import TASKS

        return [(name, "", (inspect.getdoc(type(t)) or "").splitlines()[0]) for name, t in TASKS]
    from tunemerge.stats.metrics import METRICS

    return [(name, "", "higher is better" if m.higher_is_better else "lower is better") for name, m in METRICS]


def _short(paper: str) -> str:
    """A web address by its site alone; the whole of it stands on the methods page."""
    return urlsplit(paper).netloc or paper
