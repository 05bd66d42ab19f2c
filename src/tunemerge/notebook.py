"""Progress in a notebook: a bar in the cell's output, with no widget to install."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

_BETWEEN = 0.2  # seconds: every update is a message to the browser


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


@contextmanager
def notebook_bar(what: str) -> Iterator[Callable[[float, str], None]]:
    """A function (fraction, message) that moves a bar, which goes away at the end."""
    from IPython.display import HTML, display

    place = display(HTML(_html(what, 0.0, "")), display_id=True)
    last = [0.0]

    def tell(fraction: float, message: str) -> None:
        now = time.monotonic()
        if now - last[0] >= _BETWEEN or fraction >= 1:
            last[0] = now
            place.update(HTML(_html(what, fraction, message)))

    try:
        yield tell
    finally:
        place.update(HTML(""))


def _html(what: str, fraction: float, message: str) -> str:
    return (
        f'<div><progress value="{fraction:.4f}" max="1" style="width:16em;vertical-align:middle"></progress> '
        f"{100 * fraction:.0f}% {escape(what)}{': ' * bool(message)}{escape(message)}</div>"
    )
