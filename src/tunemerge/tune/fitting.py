"""Whether a kind of task, a model and the settings of a tuning fit together: said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunemerge.findings import Finding, error
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TaskKind
from tunemerge.tune.config import TuneConfig


def no_probe(kind: TaskKind, config: TuneConfig) -> list[Finding]:
    """An error where a linear probe is asked for of a kind whose models have no head."""
    if config.method != "head" or kind.head_names:
        return []
    text = f"a model of the kind {kind.name} has no head of its own: a linear probe would train nothing"
    return [error("no-head", text, "tuning.method", "take full or lora")]


def unfit_model(kind: TaskKind, config: Mapping[str, Any], where: str, spec: Spec | None = None) -> list[Finding]:
    """An error where the kind can't use a model with this config.json (for rows of this spec)."""
    why = kind.refuses(config, spec)
    return [error("unfit-model", why, where, "give such a model, or take another kind of task")] if why else []
