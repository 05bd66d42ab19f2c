"""Returns: what an asset's price does over the next steps, from a PatchTSMixer or PatchTST that reads past returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from tunemerge.findings import Finding, error
from tunemerge.registry import listed
from tunemerge.tasks.rows import Rows, read_table, rows_from, value_targets
from tunemerge.tasks.scaling import Scale, scale_of, summary_of
from tunemerge.tasks.series_model import SeriesKind, moments
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded
from tunemerge.tasks.windows import SeriesOptions, as_bytes, cut_windows, from_bytes

_DAY = 86400.0
_ANSWER = ("return", "day", "asset", "cost")


class ReturnOptions(SeriesOptions):
    """Windows of a long table of prices. A forecast is made every `horizon` times, so that returns don't overlap."""

    value: str = Field("value", description="column of the price, of which returns are made", examples=["adj_close"])
    cost: float = Field(
        10.0, ge=0, description="cost of a trade in basis points of its value, in the metrics of the portfolio",
        examples=[5],
    )  # fmt: skip


def _zero(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    return np.zeros((len(rows), 1))


def _momentum(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    return np.asarray(spec.options["horizon"] * rows.features[:, :, 0].mean(axis=1)[:, None], np.float64)


def _ridge(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    from sklearn.linear_model import RidgeCV

    flat = [r.features / moments(r.features)[1] for r in (train, rows)]
    spread = [moments(r.features)[1][:, 0, 0] for r in (train, rows)]
    model = RidgeCV(np.logspace(-1, 5, 7)).fit(flat[0].reshape(len(train), -1), train.target[:, 0] / spread[0])
    return np.asarray(model.predict(flat[1].reshape(len(rows), -1)) * spread[1], np.float64)[:, None]


class Returns(SeriesKind):
    """Rows have a `context` of past log returns (other channels as they are) and the `return` that came, with day,
    asset and cost of a trade; a prediction is one return.

    The network reads and predicts returns over their spread in the window; mean and spread of these over all training
    rows are in the model's folder.
    """

    name = "returns"
    prediction = "return"
    metric = "information_coefficient"
    Options = ReturnOptions
    target = (*_ANSWER, "series", "time", "known")
    fits = True
    controls: ClassVar[Mapping[str, KindControl]] = {
        "zero": KindControl(_zero, "No change, for every asset: nothing is traded."),
        "momentum": KindControl(_momentum, "The window's mean return goes on."),
        "ridge": KindControl(_ridge, "Ridge regression on the window's returns."),
    }

    def convert(self, table: pd.DataFrame, options: ReturnOptions, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        # A return needs the price before it.
        longer = options.model_copy(update={"context": options.context + 1})
        found, wrong = cut_windows(table, longer, where, stride=options.horizon)
        if found is not None:
            bad = ~(found.context[:, :, 0] > 0).all(axis=1) | ~(found.future > 0).all(axis=1)
            if bad.any():
                names = listed(map(repr, pd.unique(found.series[bad])), 5)
                text = f"{options.value!r} is not positive in {int(bad.sum())} windows (series {names})"
                wrong = [*wrong, error("not-a-price", text, where, "give prices, or forecast values (`forecasting`)")]
        if found is None or wrong:
            return pd.DataFrame({name: [] for name in ("context", *self.target)}, index=table.index[:0]), wrong
        context = found.context[:, 1:].copy()
        context[:, :, 0] = np.diff(np.log(found.context[:, :, 0]), axis=1)
        columns = {
            "context": as_bytes(context),
            "return": found.future[:, -1] / found.context[:, -1, 0] - 1,
            "day": found.time / _DAY if found.dates else found.time,
            "asset": np.unique(found.series.astype(str), return_inverse=True)[1].astype(float),
            "cost": options.cost / 1e4,
            "series": found.series,
            "time": found.time,
            "known": found.known,
            # Assets of a day move together: the day is what is resampled.
            "unit": table.loc[found.at, options.time].to_numpy(),
        }
        return pd.DataFrame(columns, index=found.at), []

    def spec(self, options: ReturnOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        known = {"context": options.context, "channels": list(options.channels), "horizon": options.horizon}
        return Spec(self.name, ("return",), known)

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        table = read_table(paths, ["context", *_ANSWER])
        shape = (spec.options["context"], 1 + len(spec.options["channels"]))
        context = from_bytes(table["context"].to_pylist(), shape, f"{', '.join(map(str, paths))}: context")
        return rows_from(table, context, np.stack([value_targets(table, c, paths) for c in _ANSWER], axis=1))

    def standardised(self, context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns over their spread (their mean stays); other channels standardised."""
        loc, scale = moments(context)
        loc[:, :, 0] = 0.0
        return (context - loc) / scale, loc[:, 0, 0], scale[:, 0, 0]

    def summarise(self, rows: Rows, spec: Spec) -> Any:
        return summary_of(rows.target[:, 0] / self.standardised(rows.features)[2])

    def fit(self, summaries: Sequence[Any], spec: Spec) -> Any:
        return scale_of(summaries)

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        fitted = Scale.of(model.fitted)
        wanted = (target[:, 0] / inputs["scale"] - fitted.mean) / fitted.std
        return (outputs.float()[:, 0] - wanted.float()) ** 2

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        fitted = Scale.of(model.fitted)
        return (outputs.double() * fitted.std + fitted.mean) * inputs["scale"][:, None]

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The squared error of returns over their spread, in units of the training rows' variance."""
        spread = self.standardised(rows.features)[2]
        error = (predictions[:, 0] - rows.target[:, 0]) / spread
        return float(np.average(error**2, weights=rows.weight)) / Scale.of(model.fitted).std ** 2


TASKS.add(Returns.name, Returns())
