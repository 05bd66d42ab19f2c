"""Table regression: rows of numbers and categories, one number to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from tunemerge.findings import Finding
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks.columns import value_column
from tunemerge.tasks.rows import Rows, value_targets
from tunemerge.tasks.scaling import Scale, scale_of, summary_of, value_findings
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.table_columns import TableOptions, feature_columns, site_findings
from tunemerge.tasks.table_controls import EXTRAS, boosted_trees, linear
from tunemerge.tasks.table_model import TableKind
from tunemerge.tasks.task import TASKS, KindControl, Loaded


class TableRegressionOptions(TableOptions):
    """Columns, and a number."""

    value: str = Field("value", description="column of the number to predict", examples=["calories"])
    quantity: str = Field(
        "value", description="what the number is; tasks that share a quantity share a head", examples=["calories"]
    )


class TableRegression(TableKind):
    """Rows have columns of numbers and categories and a `value`; a prediction is one number in the unit of the data.

    The network (an MLP, ResNet or FT-Transformer) is described under `base`; the preprocessing that is fitted to all
    training rows, with the mean and spread of the value, is in the model's folder.
    """

    name = "table-regression"
    prediction = "value"
    metric = "r2"
    Options = TableRegressionOptions
    target = ("value",)
    answer_key = "value"
    controls: ClassVar[Mapping[str, KindControl]] = {
        "ridge": KindControl(linear, "Ridge regression on all training rows, no checkpoint."),
        "boosted_trees": KindControl(boosted_trees, "Gradient-boosted trees on all training rows, no checkpoint."),
        "ridge_own": KindControl(linear, "Ridge regression on each task's own training rows.", own=True),
        "boosted_trees_own": KindControl(
            boosted_trees, "Gradient-boosted trees on each task's own training rows.", own=True
        ),
        **EXTRAS,
    }

    def convert(
        self, table: pd.DataFrame, options: TableRegressionOptions, where: str
    ) -> tuple[pd.DataFrame, list[Finding]]:
        columns, found = feature_columns(table, options, where)
        value, more = value_column(table[options.value], options.value, where)
        return columns.assign(value=value), found + more

    def target_spec(self, options: TableRegressionOptions, rows: Sequence[pd.DataFrame]) -> tuple[str, ...]:
        return (options.quantity,)

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        return value_findings(parts, "value", where) + site_findings(spec.options, parts, where)

    def targets(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        return value_targets(table, "value", paths)

    def summarise(self, rows: Rows, spec: Spec) -> Any:
        return {**super().summarise(rows, spec), "target": summary_of(rows.target)}

    def fit(self, summaries: Sequence[Any], spec: Spec) -> Any:
        return {**super().fit(summaries, spec), "target": scale_of([s["target"] for s in summaries])}

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        scale = Scale.of(model.fitted["target"])
        return (outputs.float()[:, 0] - ((target - scale.mean) / scale.std).float()) ** 2

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        scale = Scale.of(model.fitted["target"])
        return outputs.double() * scale.std + scale.mean

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The squared error in units of the training rows' variance."""
        error = METRICS["rmse"].fn(rows.target, predictions, rows.weight)
        return (error / Scale.of(model.fitted["target"]).std) ** 2


TASKS.add(TableRegression.name, TableRegression())
