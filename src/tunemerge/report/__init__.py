"""The report of a study: an HTML page and a Markdown summary beside it, made from results.json alone."""

from __future__ import annotations

from pathlib import Path

from tunemerge.report.card import render_card
from tunemerge.report.markdown import render_markdown
from tunemerge.report.page import render_html
from tunemerge.report.terminal import leaderboard
from tunemerge.results import Results
from tunemerge.store.atomic import write_file

__all__ = ["leaderboard", "render_card", "render_html", "render_markdown", "write_report"]


def write_report(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write report.html and report.md into a folder (made if missing), each whole or not at all; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, summary = folder / "report.html", folder / "report.md"
    write_file(page, render_html(results).encode())
    write_file(summary, render_markdown(results).encode())
    return page, summary
