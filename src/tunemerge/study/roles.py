"""What a task is in a study, and which splits that needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tunemerge.study.config import StudyConfig

TaskRole = Literal["task", "target", "source", "retention", "unseen"]

NEEDS: Mapping[TaskRole, tuple[str, ...]] = {
    "source": ("source", "validation"),  # nothing where the pool is given
    "retention": ("test",),
    "unseen": ("test",),
}


def role_of(name: str, config: StudyConfig) -> TaskRole:
    """The role of a task of the study."""
    if name in config.retention:
        return "retention"
    if name in config.unseen:
        return "unseen"
    if config.target is None:
        return "task"
    return "target" if name == config.target else "source"


def needs(role: TaskRole, config: StudyConfig) -> tuple[str, ...]:
    """The splits that a task of this role needs."""
    if role in ("task", "target"):
        return ("adapt", "validation", config.scored)
    return NEEDS[role]
