"""A progress bar for one piece of work, and how findings look."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from tunemerge.findings import Finding
from tunemerge.progress import bar

__all__ = ["bar", "print_findings"]
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """In the colour of their severity; between ⟦ and ⟧ stands what a language model learns."""
    for finding in findings:
        text = Text(str(finding), STYLES[finding.severity])
        text.highlight_regex("⟦[^⟧]*⟧", "not dim bold green")
        console.print(text, soft_wrap=True)
