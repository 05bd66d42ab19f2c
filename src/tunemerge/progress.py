"""Progress in a terminal: a bar for one piece of work, for the command line and for Python alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[float, str], None]
"""Takes the share that is done, 0 to 1, and what is being done."""


@contextmanager
def bar(console: Console, what: str) -> Iterator[Tell]:
    """A function (fraction, message) that moves a bar, which goes away at the end; silent without a terminal."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)

        def tell(fraction: float, message: str) -> None:
            progress.update(task, completed=fraction, description=f"{what}: {message}")

        yield tell


@contextmanager
def shown(what: str, tell: Tell | None) -> Iterator[Tell]:
    """`tell` itself, or where there is none a bar on the standard error output (in a terminal or a notebook)."""
    if tell is not None:
        yield tell
        return
    from rich.console import Console

    with bar(Console(stderr=True), what) as display:
        yield display
