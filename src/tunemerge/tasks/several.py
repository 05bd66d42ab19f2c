"""Rows of several heads in one tuning: every row goes through the body once, and is judged by its own head.

A kind that no study names: `kind_of` gives it, or what the heads' own kind says (`TaskKind.several`), for a spec of
kind "several", whose options list the specs of the heads and, split by split, the number of the head that the split's
rows are for. The loss is the mean over all rows: cross-entropies of classes beside squared errors of standardised
values, which are of one size (log of the number of classes, or 1, for a model that knows nothing), without further
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.tasks.batching import Encoded, Inputs
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import SEVERAL, TASKS, Loaded
from tunemerge.tasks.text_model import TextKind, save_model

HEAD = "head"
"""The input that says which head a row is for."""


def several(heads: Sequence[Spec], rows: Sequence[int] = ()) -> Spec:
    """The spec of a model with these heads; `rows`: the number of the head of every split that is read."""
    labels = tuple(dict.fromkeys(label for spec in heads for label in spec.labels))
    return Spec(SEVERAL, labels, {"heads": [spec.as_dict() for spec in heads], "rows": list(rows)})


def specs_of(spec: Spec) -> list[Spec]:
    """The heads that such a spec lists; a spec of one head is its own."""
    return [Spec.of({"task": one}) for one in spec.options["heads"]] if spec.kind == SEVERAL else [spec]


def read_as(model: Loaded, spec: Spec) -> Loaded:
    """The same network as a model of one of its heads."""
    fitted = model.fitted if model.heads is None else model.heads.fitted(spec.as_dict())
    return Loaded(model.net, spec, model.folder, fitted, model.heads)


def text_kind(spec: Spec) -> TextKind:
    """The kind of one head: only kinds of text share a body."""
    kind = TASKS[spec.kind]
    assert isinstance(kind, TextKind), f"{spec.kind} shares no body"
    return kind


@dataclass(frozen=True)
class SeveralInputs:
    """Token lists, and the number of each row's head, int64 (n,)."""

    inner: Encoded
    head: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.inner.lengths

    def __len__(self) -> int:
        return len(self.head)

    def batch(self, rows: Sequence[int] | np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        return {**self.inner.batch(rows, length), HEAD: self.head[np.asarray(rows)]}


class SeveralHeads:
    """What a tuning needs of a kind of task, for rows of several heads."""

    target = ("label", "value")
    metric = "accuracy_and_r2"
    adapter_task = "SEQ_CLS"

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """Features are (number of the head, what that head's kind reads); targets are float64."""
        heads = specs_of(spec)
        numbers = spec.options["rows"]
        parts = [(n, TASKS[heads[n].kind].read([p], heads[n])) for p, n in zip(paths, numbers, strict=True)]
        return Rows(
            [(number, feature) for number, rows in parts for feature in rows.features],
            np.concatenate([rows.target.astype(np.float64) for _, rows in parts]),
            [unit for _, rows in parts for unit in rows.unit],
            np.concatenate([rows.weight for _, rows in parts]),
        )

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None, fitted: Sequence[Any]
    ) -> None:
        """Write the model of `folder` to `out` with all heads; `fitted`: what was fitted for each."""
        from tunemerge.tasks.first_heads import initialise_heads

        initialise_heads(folder, out, spec, seed, dropout, fitted)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        first = specs_of(spec)[0]
        one = text_kind(first).load(folder, first, dropout)
        return Loaded(one.net, spec, folder, None, one.heads)

    def save(self, model: Loaded, out: Path) -> None:
        """The heads that had rows have learned."""
        heads = specs_of(model.spec)
        labels = [label for number in model.spec.options["rows"] for label in heads[number].labels]
        assert model.heads is not None
        save_model(model.net, model.folder, out, heads=model.heads.taught(labels))

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Inputs:
        """Each head's rows as its kind encodes them."""
        columns: dict[str, list[Any]] = {}
        encoded: Encoded | None = None
        for one, own, part in self.parts(model, rows):
            encoded = text_kind(one.spec).encode(one, part, max_length)
            for name, lists in encoded.columns.items():
                column = columns.setdefault(name, [None] * len(rows))
                for row, tokens in zip(own, lists, strict=True):
                    column[row] = tokens
        assert encoded is not None
        inner = Encoded(columns, encoded.padding, encoded.left, encoded.limit)
        return SeveralInputs(inner, head_numbers(rows))

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        """All outputs of every row (batch, labels)."""
        return model.net(**{name: value for name, value in inputs.items() if name != HEAD}).logits

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        import torch

        out = torch.zeros(len(outputs), device=outputs.device)
        for one, own, logits in self._outputs(model, outputs, inputs):
            kind = TASKS[one.spec.kind]
            answer = target[own].long() if kind.prediction == "classes" else target[own]
            out = out.index_put((own,), kind.loss(one, logits, {}, answer, smoothing).float())
        return out

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """(batch, labels): what each row's head says, as its kind says it; 0 for labels that are not its own."""
        out = outputs.double() * 0
        for one, own, logits in self._outputs(model, outputs, inputs):
            said = TASKS[one.spec.kind].predictions(one, logits, {}).double()
            out[own[:, None], self.columns(model, one.spec)] = said
        return out

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The mean over heads."""
        each = [TASKS[m.spec.kind].held_out_loss(m, p, r) for m, p, r in self._judged(model, predictions, rows)]
        return float(np.mean(each))

    def score(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The mean over heads of each kind's own metric."""
        each = [TASKS[m.spec.kind].score(m, p, r) for m, p, r in self._judged(model, predictions, rows)]
        return float(np.mean(each))

    def head(self, model: Loaded) -> list[Any]:
        first = specs_of(model.spec)[0]
        return TASKS[first.kind].head(read_as(model, first))

    def body(self, model: Loaded) -> Any:
        first = specs_of(model.spec)[0]
        return TASKS[first.kind].body(read_as(model, first))

    def frozen(self, spec: Spec) -> tuple[str, ...]:
        """What is frozen for all heads."""
        first, *others = (TASKS[one.kind].frozen(one) for one in specs_of(spec))
        return tuple(name for name in first if all(name in other for other in others))

    def columns(self, model: Loaded, spec: Spec) -> list[int]:
        """Where among all outputs those of a head stand."""
        assert model.heads is not None
        return model.heads.rows(spec.labels)

    def parts(self, model: Loaded, rows: Rows) -> Iterator[tuple[Loaded, np.ndarray, Rows]]:
        """For every head that has rows: the model as that head's, which rows they are, and the rows as its kind's."""
        numbers = head_numbers(rows)
        for number, spec in enumerate(specs_of(model.spec)):
            own = np.flatnonzero(numbers == number)
            if len(own):
                target = rows.target[own]
                target = target.astype(np.int32) if TASKS[spec.kind].prediction == "classes" else target
                features = [rows.features[i][1] for i in own]
                part = Rows(features, target, [rows.unit[i] for i in own], rows.weight[own])
                yield read_as(model, spec), own, part

    def _judged(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> Iterator[tuple[Loaded, np.ndarray, Rows]]:
        for one, own, part in self.parts(model, rows):
            yield one, predictions[own][:, self.columns(model, one.spec)], part

    def _outputs(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Iterator[tuple[Loaded, Any, Any]]:
        """For every head in a batch: the model as that head's, the places of its rows, and their own outputs."""
        for number, spec in enumerate(specs_of(model.spec)):
            own = (inputs[HEAD] == number).nonzero()[:, 0]
            if len(own):
                yield read_as(model, spec), own, outputs[own][:, self.columns(model, spec)]


def head_numbers(rows: Rows) -> np.ndarray:
    return np.array([number for number, _ in rows.features], np.int64)
