"""Forecasting: the next values of a series, from a PatchTSMixer or PatchTST that reads a window of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from tunemerge.findings import Finding, error
from tunemerge.registry import listed
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks.rows import Rows, read_table, rows_from, value_targets
from tunemerge.tasks.series_model import SeriesKind, moments
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded
from tunemerge.tasks.windows import SeriesOptions, as_bytes, cut_windows, from_bytes


class ForecastOptions(SeriesOptions):
    """Windows of a long table, and how their errors are scaled."""

    stride: int = Field(1, ge=1, description="times from one forecast of a series to the next", examples=[6])
    season: int = Field(
        1, ge=1, description="length of the season in steps: of the seasonal naive forecast, whose error in the "
        "series' past is the unit of MASE; 1: the naive forecast", examples=[12],
    )  # fmt: skip

    @model_validator(mode="after")
    def _a_season_fits(self) -> Self:
        if self.season >= self.context:
            raise ValueError(f"`context` ({self.context}) must be longer than a `season` ({self.season})")
        return self


def _horizon(spec: Spec) -> int:
    return len(spec.labels)


def _naive(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    return np.repeat(rows.features[:, -1:, 0], _horizon(spec), axis=1)


def _seasonal_naive(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    season = spec.options["season"]
    last = rows.features[:, -season:, 0]
    return np.asarray(last[:, np.arange(_horizon(spec)) % season], np.float64)


def _drift(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    own = rows.features[:, :, 0]
    step = (own[:, -1:] - own[:, :1]) / (own.shape[1] - 1)
    return np.asarray(own[:, -1:] + step * np.arange(1, _horizon(spec) + 1), np.float64)


def _ridge(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(np.logspace(-2, 4, 7))
    loc, scale = (m[:, :, 0] for m in moments(train.features))
    flat = [((r.features - m) / s).reshape(len(r), -1) for r in (train, rows) for m, s in [moments(r.features)]]
    model.fit(flat[0], (train.target[:, :-1] - loc) / scale)
    loc, scale = (m[:, :, 0] for m in moments(rows.features))
    return np.asarray(model.predict(flat[1]).reshape(len(rows), -1) * scale + loc, np.float64)


class Forecasting(SeriesKind):
    """Rows have a `context` and the `future` values, and the `scale` of their series; a prediction is the next
    `horizon` values in the unit of the data."""

    name = "forecasting"
    prediction = "forecast"
    metric = "mase"
    Options = ForecastOptions
    target = ("future", "scale", "series", "time", "known")
    controls: ClassVar[Mapping[str, KindControl]] = {
        "naive": KindControl(_naive, "The last value, for all steps ahead."),
        "seasonal_naive": KindControl(_seasonal_naive, "The values one season before."),
        "drift": KindControl(_drift, "The last value, and the window's mean step for every step ahead."),
        "ridge": KindControl(_ridge, "Ridge regression on the standardised window."),
    }

    def convert(self, table: pd.DataFrame, options: ForecastOptions, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        found, wrong = cut_windows(table, options, where, options.stride, options.season)
        if found is None:
            return pd.DataFrame({name: [] for name in ("context", *self.target)}, index=table.index[:0]), wrong
        columns = {
            "context": as_bytes(found.context),
            "future": as_bytes(found.future),
            "scale": found.past,
            "series": found.series,
            "time": found.time,
            "known": found.known,
            "unit": found.series,
        }
        rows = pd.DataFrame(columns, index=found.at)
        flat = rows[~(rows["scale"] > 0)]
        if len(flat):
            names = listed(map(repr, flat["series"].unique()), 5)
            text = (
                f"{len(flat)} windows come after a past in which values {options.season} apart never differ (first "
                f"data row {flat.index[0] + 1}; series {names}): their errors have no scale"
            )
            wrong = [error("flat-past", text, where, "leave these series out, or take a longer `context`")]
        return rows, wrong

    def spec(self, options: ForecastOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        known = {"context": options.context, "channels": list(options.channels), "season": options.season}
        return Spec(self.name, tuple(f"t+{i}" for i in range(1, options.horizon + 1)), known)

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        table = read_table(paths, ["context", "future", "scale"])
        shape = (spec.options["context"], 1 + len(spec.options["channels"]))
        what = ", ".join(map(str, paths))
        context = from_bytes(table["context"].to_pylist(), shape, f"{what}: context")
        future = from_bytes(table["future"].to_pylist(), (_horizon(spec),), f"{what}: future")
        scale = value_targets(table, "scale", paths)
        return rows_from(table, context, np.concatenate([future, scale[:, None]], axis=1))

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        """Huber's, of standardised values: a trend may leave its window by many spreads."""
        from torch.nn.functional import smooth_l1_loss

        wanted = (target[:, :-1] - inputs["loc"][:, None]) / inputs["scale"][:, None]
        return smooth_l1_loss(outputs.float(), wanted.float(), reduction="none").mean(dim=1)

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        return outputs.double() * inputs["scale"][:, None] + inputs["loc"][:, None]

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The mean absolute scaled error: 1 is the naive forecast's, one step ahead."""
        return METRICS["mase"].fn(rows.target, predictions, rows.weight)


TASKS.add(Forecasting.name, Forecasting())
