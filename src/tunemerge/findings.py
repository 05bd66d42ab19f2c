"""Findings: what `check` and `plan` speak in. All of them are collected before anything is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from tunemerge.errors import UsageError

Severity = Literal["error", "warning", "note"]
ORDER: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    `code` is a stable kebab-case name; `where` a file, line, row, tensor or key; `remedy` what to do.
    """

    code: str
    severity: Severity
    message: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        fix = f"\n    fix: {self.remedy}" if self.remedy else ""
        return f"{self.severity}[{self.code}] {place}{self.message}{fix}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class FindingsError(UsageError):
    """One or more findings of severity error; `findings` has all of them, the message prints them all."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings, key=lambda f: ORDER[f.severity]))
        super().__init__("\n".join(str(f) for f in self.findings))


def error(code: str, message: str, where: str = "", remedy: str = "") -> Finding:
    return Finding(code, "error", message, where, remedy)


def warning(code: str, message: str, where: str = "", remedy: str = "") -> Finding:
    return Finding(code, "warning", message, where, remedy)


def note(code: str, message: str, where: str = "", remedy: str = "") -> Finding:
    return Finding(code, "note", message, where, remedy)


def refuse_errors(findings: Iterable[Finding]) -> list[Finding]:
    """Raise FindingsError when any finding is an error (with all findings); else return them."""
    found = list(findings)
    if any(f.severity == "error" for f in found):
        raise FindingsError(found)
    return found
