"""Where commands print. With --json one document goes to standard output, and all that is for people to standard error.

Every document has `format` and `command`; what else it has is in docs/json.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextvars import ContextVar
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tunemerge.findings import Finding

FORMAT = 1
_WIDEST = 10_000
_COMMAND: ContextVar[str] = ContextVar("command", default="")
_ASKED: ContextVar[bool] = ContextVar("asked for JSON", default=False)


def _remember(ctx: typer.Context, wanted: bool) -> bool:
    _COMMAND.set(ctx.info_name or "")
    _ASKED.set(wanted)
    return wanted


Json = Annotated[
    bool, typer.Option("--json", callback=_remember, is_eager=True, help="one JSON document on standard output")
]


def as_json() -> bool:
    """Whether the command that runs was asked for JSON."""
    return _ASKED.get()


def screen() -> Console:
    """Where what people read goes."""
    from rich.console import Console

    return Console(stderr=as_json())


def print_table(console: Console, table: Table) -> None:
    """A table; where no terminal reads it, its lines are as long as it takes, so that no name is broken in two."""
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    console.print(table)


def answer(**values: Any) -> None:
    """The command's document, printed where JSON was asked for. A number that is none (NaN) is null."""
    if as_json():
        print_json({"format": FORMAT, "command": _COMMAND.get(), **values})


def print_json(values: Any) -> None:
    print(json.dumps(_finite(values), indent=1, allow_nan=False, default=str))


def as_dicts(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Findings as they stand in a document."""
    return [finding.as_dict() for finding in findings]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
