"""The report inside a notebook: the verdict, and the page in a frame of its own."""

from __future__ import annotations

from html import escape

from tunemerge.report.page import render_html
from tunemerge.results import Results


def render_inline(results: Results) -> str:
    """HTML for a cell's output. The page keeps its own styles, and runs no script, in the frame."""
    page = escape(render_html(results), quote=True)
    frame = "width:100%;height:42em;border:1px solid #8884"
    return (
        f"<p><b>{escape(results.name)}</b>: {escape(results.verdict.sentence)}</p>"
        f'<iframe srcdoc="{page}" style="{frame}" sandbox="allow-same-origin allow-popups" loading="lazy"></iframe>'
    )
