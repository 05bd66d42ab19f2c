"""Progress: a bar for one piece of work, for the command line, for Python in a terminal and in a notebook alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunemerge.notebook import in_notebook, notebook_bar

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
    if in_notebook():
        with notebook_bar(what) as display:
            yield display
        return
    from rich.console import Console

    with bar(Console(stderr=True), what) as display:
        yield display
