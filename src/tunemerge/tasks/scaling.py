"""The mean and spread of numbers over training rows: what they are standardised by, fitted once for all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from tunemerge.findings import Finding, error


class Scale(NamedTuple):
    """value = standardised * std + mean."""

    mean: float
    std: float

    @classmethod
    def of(cls, fitted: Mapping[str, float] | None) -> Self:
        """What `scale_of` gave; nothing fitted changes nothing."""
        return cls(0.0, 1.0) if fitted is None else cls(fitted["mean"], fitted["std"])


def summary_of(values: np.ndarray) -> dict[str, float]:
    """Count, mean and sum of squares about the mean: enough for the scale of several tasks together."""
    return {"rows": len(values), "mean": float(values.mean()), "squares": float(((values - values.mean()) ** 2).sum())}


def scale_of(summaries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean and standard deviation over the rows of all summaries; 1 where all values are one."""
    rows = sum(s["rows"] for s in summaries)
    mean = sum(s["rows"] * s["mean"] for s in summaries) / rows
    squares = sum(s["squares"] + s["rows"] * (s["mean"] - mean) ** 2 for s in summaries)
    return {"mean": mean, "std": float(np.sqrt(squares / rows)) or 1.0}


def value_findings(parts: Mapping[str, pd.DataFrame], column: str, where: str) -> list[Finding]:
    """Splits in which the value to predict is always the same."""
    return [
        error("one-value", f"all {split} rows have the same {column}", where)
        for split, rows in parts.items()
        if len(rows) > 1 and rows[column].nunique() == 1
    ]
