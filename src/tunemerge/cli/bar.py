"""A progress bar for one piece of work, and how findings look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from tunemerge.findings import Finding

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


@contextmanager
def bar(console: Console, what: str) -> Iterator[Callable[[float, str], None]]:
    """A function (fraction, message) that moves a bar, which goes away at the end."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)

        def tell(fraction: float, message: str) -> None:
            progress.update(task, completed=fraction, description=f"{what}: {message}")

        yield tell


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    for finding in findings:
        console.print(str(finding), style=STYLES[finding.severity], markup=False, highlight=False, soft_wrap=True)
