"""The predictions of one model on one test set, as the statistics take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunemerge.errors import UsageError


@dataclass(frozen=True, eq=False)
class Predictions:
    """n rows. `unit` [n] names what the statistics resample (rows may share one); `weight` [n], positive.

    Classes: `target` [n] is the class index, an integer, and `outputs` [n, C] logits. All else: `target` [n] or [n, m]
    is a floating-point number, and `outputs` [n, k] what a kind of task stores for a row (a value in the data's unit).

    Raises UsageError naming the column and the row.
    """

    unit: NDArray[np.str_] | NDArray[np.object_]
    target: NDArray[np.integer] | NDArray[np.floating]
    outputs: NDArray[np.float64]
    weight: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", np.asarray(self.unit))
        object.__setattr__(self, "target", np.asarray(self.target))
        object.__setattr__(self, "outputs", np.asarray(self.outputs, np.float64))
        object.__setattr__(self, "weight", np.asarray(self.weight, np.float64))
        n = len(self.unit)
        if n == 0:
            raise UsageError("predictions: no rows; expected at least 2 units")
        values = np.issubdtype(self.target.dtype, np.floating)
        if self.outputs.ndim != 2 or self.outputs.shape[1] < (1 if values else 2):
            raise UsageError(
                f"predictions: outputs have shape {self.outputs.shape}; expected [rows, outputs], 2 or more of classes"
            )
        for name, column in (("target", self.target), ("outputs", self.outputs), ("weight", self.weight)):
            if len(column) != n or (column.ndim != 1 and name != "outputs" and not (values and name == "target")):
                raise UsageError(
                    f"predictions: {name} has shape {column.shape}, unit has {n} rows; give one value a row"
                )
        if not values and not np.issubdtype(self.target.dtype, np.integer):
            raise UsageError(f"predictions: target has dtype {self.target.dtype}; expected class indices or values")
        _refuse(
            np.asarray(~np.isfinite(self.outputs).all(axis=1)),
            "an output is NaN or infinite: did training diverge?",
        )
        if values:
            finite = np.isfinite(self.target).reshape(n, -1).all(axis=1)
            _refuse(np.asarray(~finite), "the target is NaN or infinite: leave such rows out")
        else:
            classes = self.outputs.shape[1]
            _refuse((self.target < 0) | (self.target >= classes), f"the target is no index of the {classes} classes")
        _refuse(
            ~(np.isfinite(self.weight) & (self.weight > 0)),
            "the weight is not a positive number: leave such rows out",
        )


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        raise UsageError(f"predictions: row {rows[0]}: {what}{more}")
