"""Text classification: one label set, one text a row, a Hugging Face encoder or decoder with a classification head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, Field

from tunemerge.findings import Finding
from tunemerge.tasks import hub
from tunemerge.tasks.classes import class_findings, cross_entropies
from tunemerge.tasks.columns import Labels, label_column, label_names
from tunemerge.tasks.hub_classifier import with_head
from tunemerge.tasks.labels import is_classifier, own_labels
from tunemerge.tasks.rows import class_targets
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded
from tunemerge.tasks.text_model import TextKind, TextOptions, text_columns
from tunemerge.tasks.word_controls import logistic


class ClassificationOptions(TextOptions):
    """A text, or two, and one label of several."""

    label: str = Field("label", description="column of the label", examples=["stars"])
    labels: Labels = Field(
        {}, description="raw label value to label name; labels that are called alike share an output",
        examples=[{"0": "negative", "1": "positive"}],
    )  # fmt: skip


class TextClassification(TextKind):
    """Rows have a `text` column (and a `pair`); a prediction is one logit a label."""

    name = "text-classification"
    prediction = "classes"
    metric = "accuracy"
    Options: ClassVar[type[BaseModel]] = ClassificationOptions
    target = ("label",)
    controls: ClassVar[Mapping[str, KindControl]] = {
        "tfidf_linear": KindControl(logistic, "Logistic regression on words and pairs of words, no checkpoint.")
    }
    problem_type: ClassVar[str] = "single_label_classification"  # transformers' word for it, in config.json

    def convert(
        self, table: pd.DataFrame, options: ClassificationOptions, where: str
    ) -> tuple[pd.DataFrame, list[Finding]]:
        label, found = label_column(table[options.label], options.labels, where)
        return text_columns(table, options).assign(label=label), found

    def spec(self, options: ClassificationOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        return Spec(self.name, label_names(rows), {"pair": True} if options.pair else {})

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        said = config.get("problem_type") or TextClassification.problem_type
        return tuple(own_labels(config)) if is_classifier(config) and said == self.problem_type else None

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        return class_findings(parts, where)

    def answers(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        return class_targets(table, spec.labels, paths)

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """A base without a classification head gets a fresh one, drawn from `seed`; its own tensors stay as they are.

        A checkpoint with a head keeps it, its outputs put into the order of the labels by name: UsageError if one of
        the labels is not among the head's own.
        """
        config = hub.read_config(folder)
        hub.set_dropout(config, dropout, folder)
        if config.pad_token_id is None:
            config.pad_token_id = hub.tokenizer_of(folder).pad_token_id
        net = with_head(folder, config, spec.labels, seed)
        net.config.problem_type = self.problem_type
        self.save(Loaded(net, spec, folder), out)

    def check_outputs(self, config: Any, spec: Spec, folder: Path) -> None:
        hub.same_labels(hub.label_names(config), spec.labels, folder)

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        return cross_entropies(outputs, target, smoothing)


TASKS.add(TextClassification.name, TextClassification())
