"""A progress bar for one piece of work, and how findings look."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from tunemerge.findings import Finding
from tunemerge.progress import bar

__all__ = ["bar", "print_findings"]
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    for finding in findings:
        console.print(str(finding), style=STYLES[finding.severity], markup=False, highlight=False, soft_wrap=True)
