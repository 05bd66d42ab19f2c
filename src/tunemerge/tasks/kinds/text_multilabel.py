"""Multi-label text classification: any number of labels a text, from a Hugging Face encoder or decoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed, nearest
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks.kinds.text_classification import ClassificationOptions, TextClassification
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded, Source
from tunemerge.tasks.text_model import text_columns
from tunemerge.tasks.word_controls import logistic_each


class MultilabelOptions(ClassificationOptions):
    """A text, or two, and the labels that apply to it."""

    label: str = Field(
        "labels", description="column of the labels: a list, or one text with a separator; empty where none applies",
        examples=["topics"],
    )  # fmt: skip
    separator: str = Field(";", description="between the labels of a text column", min_length=1, examples=["|"])


class TextMultilabel(TextClassification):
    """Rows have a `text` column (and a `pair`) and a `label` that is a JSON list of names; a prediction is one logit a
    label, each label a question of its own."""

    name = "text-multilabel"
    prediction = "labels"
    metric = "micro_f1"
    Options = MultilabelOptions
    shares_body = ""
    problem_type = "multi_label_classification"
    controls: ClassVar[Mapping[str, KindControl]] = {
        "tfidf_linear": KindControl(
            logistic_each, "Logistic regression on words and pairs of words for each label, no checkpoint."
        )
    }

    def source(self, options: Any) -> Source:
        source = super().source(options)
        return Source(source.columns, source.required - {"label"})

    def convert(self, table: pd.DataFrame, options: Any, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        raw = [_names(cell, options.separator) for cell in table[options.label]]
        found = _unknown(raw, table.index, options.labels, where) if options.labels else []
        named = [sorted({options.labels.get(name, name) for name in names}) for names in raw]
        label = pd.Series([json.dumps(names, ensure_ascii=False) for names in named], table.index, dtype=object)
        return text_columns(table, options).assign(label=label), found

    def spec(self, options: Any, rows: Sequence[pd.DataFrame]) -> Spec:
        names = {name for frame in rows for cell in frame["label"].unique() for name in json.loads(cell)}
        return Spec(self.name, tuple(sorted(names)), {"pair": True} if options.pair else {})

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        """Labels that are tested and never taught are an error; those on all rows of a split are told."""
        rows = {split: [set(json.loads(cell)) for cell in frame["label"]] for split, frame in parts.items()}
        taught = set().union(*(names for split in ("source", "adapt") for names in rows.get(split, [])))
        found = []
        for split in ("validation", "test", "held_out"):
            strange = sorted(set().union(*rows.get(split, [])) - taught)
            if taught and strange:
                text = f"{split} rows have labels that training lacks: {listed(map(repr, strange))}"
                fix = "map the label with `labels:`, or give training rows that have it"
                found.append(error("label-not-in-training", text, where, fix))
        for split, sets in rows.items():
            always = sorted(set.intersection(*sets)) if sets else []
            if always:
                text = f"all {split} rows have the label {listed(map(repr, always))}: it asks nothing"
                found.append(warning("one-class", text, where, "leave the label out"))
        return found

    def answers(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        """1.0 where a label applies, float64 (n, labels)."""
        index = {name: i for i, name in enumerate(spec.labels)}
        target = np.zeros((len(table), len(index)))
        for row, cell in enumerate(table["label"].to_pylist()):
            for name in json.loads(cell):
                if name not in index:
                    files = ", ".join(map(str, paths))
                    near = nearest(name, list(index))
                    raise UsageError(f"{files}: row {row}: label {name!r} is not in the label set{near}")
                target[row, index[name]] = 1.0
        return target

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        """Mean over labels of the binary cross-entropy; smoothing moves each answer toward one half."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        wanted = target.float() * (1 - smoothing) + smoothing / 2
        return binary_cross_entropy_with_logits(outputs.float(), wanted, reduction="none").mean(dim=1)

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        return METRICS["label_log_loss"].fn(rows.target, predictions, rows.weight)

    def ensemble(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Log odds of the mean probability of each label."""
        yes = np.mean([np.exp(-np.logaddexp(0.0, -o)) for o in outputs], axis=0)
        no = np.mean([np.exp(-np.logaddexp(0.0, o)) for o in outputs], axis=0)
        tiny = np.finfo(np.float64).tiny
        return np.asarray(np.log(np.maximum(yes, tiny)) - np.log(np.maximum(no, tiny)))


def _names(cell: Any, separator: str) -> list[str]:
    if isinstance(cell, str):
        return [name.strip() for name in cell.split(separator) if name.strip()]
    if isinstance(cell, Iterable):
        return [str(name) for name in cell]
    return [] if pd.isna(cell) else [str(cell)]


def _unknown(raw: Sequence[Sequence[str]], index: pd.Index, labels: Mapping[str, str], where: str) -> list[Finding]:
    strange = [(row, name) for row, names in zip(index, raw, strict=True) for name in names if name not in labels]
    if not strange:
        return []
    row, name = strange[0]
    text = (
        f"label values that `labels` does not name: {listed(map(repr, sorted({n for _, n in strange})))}, first "
        f"in data row {row + 1}{nearest(name, list(labels))}"
    )
    return [error("unknown-label", text, where, "add them to `labels:`, raw value to label name")]


TASKS.add(TextMultilabel.name, TextMultilabel())
