"""Models with several heads: one output layer, of which every task reads the rows of its own labels.

Such a model is a usual classifier folder whose output layer has a row for every label of every task: for every class,
and for every value of a regression. A task's head is found by the names of its labels, so tasks with the same labels
share a head, and heads that overlap share rows. `tunemerge_heads.json` beside it says what config.json can't.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed

RECORD = "tunemerge_heads.json"


@dataclass(frozen=True)
class Head:
    """What a head predicts (a `tasks.spec.Spec` as JSON), and what was fitted to training rows for it."""

    spec: Mapping[str, Any]
    fitted: Any = None


@dataclass(frozen=True)
class Heads:
    """The output layer of a model. `labels`: its rows in order. `tensors`: its tensors, first axis the rows.
    `learned`: the labels whose rows were trained; the others are as they were drawn."""

    heads: tuple[Head, ...]
    labels: tuple[str, ...]
    tensors: tuple[str, ...]
    learned: frozenset[str] = frozenset()

    def rows(self, labels: Sequence[str]) -> list[int]:
        """Where these labels stand. UsageError for one that is not there."""
        place = {label: row for row, label in enumerate(self.labels)}
        missing = [label for label in labels if label not in place]
        if missing:
            raise UsageError(f"no head of the model predicts {listed(missing)}; its labels are {listed(self.labels)}")
        return [place[label] for label in labels]

    def fitted(self, spec: Mapping[str, Any]) -> Any:
        """What was fitted for a head; None where nothing was."""
        return next((h.fitted for h in self.heads if h.spec == spec), None)

    def has_learned(self, labels: Collection[str]) -> bool:
        """Whether any of these labels was trained."""
        return not self.learned.isdisjoint(labels)

    def taught(self, labels: Collection[str]) -> Self:
        """The same after a training on rows with these labels."""
        return replace(self, learned=self.learned | set(labels))


def read_heads(folder: Path) -> Heads | None:
    """None where the folder is a model with one head."""
    if not (folder / RECORD).is_file():
        return None
    known = json.loads((folder / RECORD).read_text("utf-8"))
    heads = tuple(Head(h["spec"], h["fitted"]) for h in known["heads"])
    return Heads(heads, tuple(known["labels"]), tuple(known["tensors"]), frozenset(known["learned"]))


def write_heads(folder: Path, heads: Heads) -> None:
    """The record beside a model with several heads."""
    known = {
        "heads": [{"spec": dict(h.spec), "fitted": h.fitted} for h in heads.heads],
        "labels": heads.labels,
        "tensors": heads.tensors,
        "learned": [label for label in heads.labels if label in heads.learned],
    }
    (folder / RECORD).write_text(json.dumps(known, indent=1, allow_nan=False) + "\n", "utf-8")


def heads_findings(folders: Mapping[str, Path]) -> list[Finding]:
    """What the records say against merging these models row by row: an error where their output layers list other
    labels, a warning where some models never learned a label that others did."""
    known = {name: heads for name, folder in folders.items() if (heads := read_heads(folder)) is not None}
    if len(known) < 2:
        return []
    (first, expected), *others = known.items()
    found = []
    for name, own in others:
        if own.labels != expected.labels:
            text = f"its output layer has rows for {listed(own.labels)}, that of {first} for {listed(expected.labels)}"
            fix = "merge models of one study, or export each with --task"
            found.append(error("heads-differ", text, name, fix))
    partly = [label for label in expected.labels if 0 < sum(label in h.learned for h in known.values()) < len(known)]
    if partly and not found:
        text = f"not all models have learned {listed(partly)}; these rows are merged with rows as they were drawn"
        fix = "a study merges each row from the models that have learned it"
        found.append(warning("heads-unlearned", text, first, fix))
    return found
