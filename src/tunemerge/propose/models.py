"""The models that are given: where they lie, what their heads predict, and which task each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunemerge.checkpoint.locate import locate
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, error
from tunemerge.propose.columns import plain
from tunemerge.propose.tables import task_name
from tunemerge.tasks.labels import is_classifier, own_labels


@dataclass(frozen=True)
class Given:
    """A model: `path` as the person wrote it, `name` what it is called (`said`: by the person), `labels` of its head
    in index order."""

    path: str
    name: str
    said: bool
    labels: tuple[str, ...]


def open_models(asked: Sequence[str], flag: str) -> tuple[list[Given], list[Finding]]:
    """Models as `PATH` or `NAME=PATH`; those that can't be opened are findings."""
    out, found = [], []
    for text in asked:
        said, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            said, path = "", text
        try:
            folder = locate(path)
            config = open_checkpoint(folder).config
        except TunemergeError as e:
            found.append(error("no-such-model", str(e), f"{flag} {text}"))
            continue
        labels = tuple(own_labels(config)) if is_classifier(config) else ()
        out.append(Given(path, said or task_name(folder.resolve().name), bool(said), labels))
    return out, found


def match_models(
    models: Sequence[Given], tasks: Mapping[str, Sequence[str]]
) -> tuple[dict[str, tuple[Given, str]], list[Given]]:
    """Task to its model and why, and the models that no task is known for. `tasks`: the raw labels of each.

    By the name that the person gave, else one name within the other, else the labels of the head where only one task
    has them.
    """
    out: dict[str, tuple[Given, str]] = {}
    left: list[Given] = []
    for model in models:
        exact = [t for t in tasks if t == model.name]
        alike = [] if model.said else [t for t in tasks if _within(t, model.name) or _within(model.name, t)]
        own = [t for t, labels in tasks.items() if labels and set(labels) == set(model.labels)]
        for fits, why in ((exact, "its name"), (alike, "its name"), (own, "the labels of its head")):
            if len(fits) == 1 and fits[0] not in out:
                out[fits[0]] = (model, why)
                break
        else:
            left.append(model)
    return out, left


def _within(name: str, other: str) -> bool:
    return len(plain(name)) > 2 and plain(name) in plain(other)
