"""Table classification: rows of numbers and categories, one label of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from tunemerge.findings import Finding
from tunemerge.tasks.classes import class_findings, cross_entropies
from tunemerge.tasks.columns import Labels, label_column, label_names
from tunemerge.tasks.rows import class_targets
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.table_columns import TableOptions, feature_columns, site_findings
from tunemerge.tasks.table_controls import EXTRAS, boosted_trees, linear
from tunemerge.tasks.table_model import TableKind
from tunemerge.tasks.task import TASKS, KindControl, Loaded


class TableClassificationOptions(TableOptions):
    """Columns, and one label of several."""

    label: str = Field("label", description="column of the label", examples=["disease"])
    labels: Labels = Field(
        {}, description="raw label value to label name; tasks that share labels share a head",
        examples=[{"0": "healthy", "1": "ill"}],
    )  # fmt: skip


class TableClassification(TableKind):
    """Rows have columns of numbers and categories and a `label`; a prediction is one logit a label.

    The network (an MLP, ResNet or FT-Transformer) is described under `base`; the preprocessing that is fitted to all
    training rows is in the model's folder.
    """

    name = "table-classification"
    prediction = "classes"
    metric = "auroc"
    Options = TableClassificationOptions
    target = ("label",)
    answer_key = "label"
    controls: ClassVar[Mapping[str, KindControl]] = {
        "logistic": KindControl(linear, "Logistic regression on all training rows, no checkpoint."),
        "boosted_trees": KindControl(boosted_trees, "Gradient-boosted trees on all training rows, no checkpoint."),
        "logistic_own": KindControl(linear, "Logistic regression on each task's own training rows.", own=True),
        "boosted_trees_own": KindControl(
            boosted_trees, "Gradient-boosted trees on each task's own training rows.", own=True
        ),
        **EXTRAS,
    }

    def convert(
        self, table: pd.DataFrame, options: TableClassificationOptions, where: str
    ) -> tuple[pd.DataFrame, list[Finding]]:
        columns, found = feature_columns(table, options, where)
        raw = table[options.label]
        label, more = label_column(raw, options.labels, where)
        if more:
            first = int(raw.index[~raw.astype(str).isin(options.labels)][0]) + 1
            more = [replace(f, message=f"{f.message}; first in data row {first}, column {raw.name!r}") for f in more]
        return columns.assign(label=label), found + more

    def target_spec(self, options: TableClassificationOptions, rows: Sequence[pd.DataFrame]) -> tuple[str, ...]:
        return label_names(rows)

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        return class_findings(parts, where) + site_findings(spec.options, parts, where)

    def targets(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        return class_targets(table, spec.labels, paths)

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        return cross_entropies(outputs, target, smoothing)


TASKS.add(TableClassification.name, TableClassification())
