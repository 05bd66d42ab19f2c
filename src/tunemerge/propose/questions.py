"""What a person can say beside data and models, and what is asked where nothing says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunemerge.findings import Finding, error


@dataclass(frozen=True)
class Answers:
    """What was said, by flags or in a dialogue; None where nothing was. Columns may be "none"."""

    text: str | None = None
    label: str | None = None
    unit: str | None = None
    weight: str | None = None
    date: str | None = None
    task_by: str | None = None
    kind: str | None = None
    labels: dict[str, str] | None = None
    only: tuple[str, ...] | None = None
    base: str | None = None
    target: str | None = None
    models: tuple[str, ...] = ()
    minutes: float = 20.0


@dataclass(frozen=True)
class Question:
    """`key`: the field of `Answers` that answers it. `default`: what is likely, None where nothing is. `choices`: all
    that can be answered, () where anything can. `needed`: without a terminal it must be answered by its flag; else the
    default is taken."""

    key: str
    text: str
    default: str | None
    choices: tuple[str, ...] = ()
    needed: bool = True
    hints: dict[str, str] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        return "--model" if self.key == "models" else "--" + self.key.replace("_", "-")


def unanswered(questions: Iterable[Question]) -> list[Finding]:
    """The needed ones as findings, each with the flag that answers it."""
    out = []
    for q in questions:
        if q.needed:
            value = q.default or (q.choices[0] if q.choices else "VALUE")
            others = [c for c in q.choices if c != value]
            more = f" (or {', '.join(others)})" if others else ""
            out.append(error(f"ask-{q.key.replace('_', '-')}", q.text, q.flag, f"{q.flag} {value}{more}"))
    return out
