"""What the files of given models say to a merge: whether there is a head, its tensors, running statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tunemerge.checkpoint.model import Checkpoint, open_checkpoint
from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, note
from tunemerge.graph.step import Leaf, Step
from tunemerge.strategies.setting import Setting
from tunemerge.tasks.made_network import Description, is_made
from tunemerge.tasks.task import TASKS

STATISTICS = ("running_mean", "running_var")
"""Parts of the names of what batch norms have seen. Merges average them: added up like weights, a variance could
become negative."""


def has_head(setting: Setting) -> bool:
    """Whether the study's base predicts something already."""
    base = next(_given(setting), None) if setting.base_model is not None else None
    return base is not None and TASKS[setting.task["task"]["kind"]].own_labels(base.config) is not None


def head_names(setting: Setting) -> tuple[str, ...]:
    """Parts of the names of tensors that belong to heads."""
    model = next(_given(setting), None)
    if model is not None and is_made(model.config):
        return tuple(name for name, _ in Description.read(model.folder).head)
    return TASKS[setting.task["task"]["kind"]].head_names


def has_statistics(setting: Setting) -> bool:
    """Whether the models have batch norms."""
    model = next(_given(setting), None)
    return model is not None and any(name.endswith(STATISTICS) for name in model.tensors)


def batch_norm_findings(models: Mapping[str, Leaf]) -> list[Finding]:
    """What becomes of the running statistics of models that have some."""
    for leaf in models.values():
        try:
            if not any(name.endswith(STATISTICS) for name in open_checkpoint(leaf.path).tensors):
                return []
        except TunemergeError:
            return []  # reported by the check of the files
    if not models:
        return []
    text = (
        "the models have batch norms: every method averages their running statistics, and no data corrects them after "
        "a merge (REPAIR is not done), so merges that nothing tunes may score low"
    )
    return [note("batch-norms", text, next(iter(models)))]


def _given(setting: Setting) -> Iterator[Checkpoint]:
    """The given models that are there, the base first."""
    for start in (setting.base_model, *setting.pool.values()):
        if isinstance(start, Step) and "model" in start.inputs:
            (leaf,) = start.inputs["model"]
            if isinstance(leaf, Leaf) and leaf.path != Path():  # a stand-in for a model that is not there
                yield open_checkpoint(leaf.path)
