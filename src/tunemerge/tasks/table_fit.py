"""What is fitted to the training rows of tables before any model, from sums and counts that add up over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tunemerge.registry import listed
from tunemerge.tasks.batching import Arrays
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.scaling import scale_of, summary_of
from tunemerge.tasks.table_columns import PREFIX

# Standard deviations from the mean at which a value is cut: an outlier is told from others, and moves no weight more.
_FAR = 5.0
# Slots of a category before those of its values.
UNKNOWN, MISSING, FIRST = 0, 1, 2


@dataclass(frozen=True)
class Features:
    """Of n rows: `numbers` float64 (n, k), NaN where missing, and `categories` object (n, m), None where missing."""

    numbers: np.ndarray
    categories: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> Features:
        return Features(self.numbers[rows], self.categories[rows])


def read_features(table: pa.Table, options: Mapping[str, Any]) -> Features:
    numbers = [table[PREFIX + c].to_numpy().astype(np.float64) for c in options["numeric"]]
    categories = [np.array(table[PREFIX + c].to_pylist(), object) for c in options["categorical"]]
    n = len(table)
    return Features(
        np.stack(numbers, axis=1) if numbers else np.zeros((n, 0)),
        np.stack(categories, axis=1) if categories else np.zeros((n, 0), object),
    )


def summarise(rows: Rows, options: Mapping[str, Any]) -> dict[str, Any]:
    """Count, mean and sum of squares of every column of numbers, how many are missing, and how many rows have each
    category; of columns whose categories are declared only which of these occur."""
    features = rows.features
    numbers = {}
    for i, column in enumerate(options["numeric"]):
        values = features.numbers[:, i]
        there = values[~np.isnan(values)]
        own = summary_of(there) if len(there) else {"rows": 0, "mean": 0.0, "squares": 0.0}
        numbers[column] = {**own, "missing": int(len(values) - len(there))}
    categories = {}
    for i, (column, declared) in enumerate(options["categorical"].items()):
        values = [v for v in features.categories[:, i] if v is not None and (not declared or v in declared)]
        names, counts = np.unique(np.array(values, dtype=str), return_counts=True)
        categories[column] = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return {"numbers": numbers, "categories": categories}


def fit(summaries: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and spread of every column of numbers, whether values of it are missing, and the categories of others: those
    declared, else those of at least `rare` rows, sorted."""
    numeric = {}
    for column in options["numeric"]:
        own = [s["numbers"][column] for s in summaries]
        there = [s for s in own if s["rows"]]
        scale = scale_of(there) if there else {"mean": 0.0, "std": 1.0}
        numeric[column] = {**scale, "missing": sum(s["missing"] for s in own) > 0}
    categorical = {}
    for column, declared in options["categorical"].items():
        counts: dict[str, int] = {}
        for summary in summaries:
            for name, count in summary["categories"][column].items():
                counts[name] = counts.get(name, 0) + count
        categorical[column] = list(declared) or sorted(n for n, c in counts.items() if c >= options["rare"])
    return {"numeric": numeric, "categorical": categorical}


def shape_of(fitted: Mapping[str, Any]) -> tuple[int, list[int]]:
    """How many numbers a network reads (flags of missing ones too), and the slots of each category."""
    flags = sum(scale["missing"] for scale in fitted["numeric"].values())
    return len(fitted["numeric"]) + flags, [FIRST + len(names) for names in fitted["categorical"].values()]


def encode(features: Features, fitted: Mapping[str, Any]) -> Arrays:
    """`numbers` float32 (n, numbers): standardised, 0 where missing, then a flag for every column that had missing
    values in training; `categories` int64 (n, columns): the slot of each."""
    scales = list(fitted["numeric"].values())
    mean, std = (np.array([s[key] for s in scales], np.float64) for key in ("mean", "std"))
    absent = np.isnan(features.numbers)
    standard = np.where(absent, 0.0, np.clip((features.numbers - mean) / std, -_FAR, _FAR))
    flags = absent[:, [bool(s["missing"]) for s in scales]] if scales else absent
    numbers = np.concatenate([standard, flags], axis=1).astype(np.float32)
    slots = np.zeros(features.categories.shape, np.int64)
    for i, names in enumerate(fitted["categorical"].values()):
        known = {name: FIRST + j for j, name in enumerate(names)}
        slots[:, i] = [MISSING if v is None else known.get(v, UNKNOWN) for v in features.categories[:, i]]
    return Arrays({"numbers": numbers, "categories": slots})


def other_columns(fitted: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    """How the columns that a model reads differ from those of rows; None where they don't."""
    for key in ("numeric", "categorical"):
        reads, has = list(fitted.get("columns", {}).get(key, ())), list(options[key])
        parts = [f"reads the {key} columns {listed(map(repr, lost), 8)}" for lost in [_without(reads, has)] if lost]
        parts += [f"knows nothing of {listed(map(repr, more), 8)}" for more in [_without(has, reads)] if more]
        if parts:
            return (
                f"{' and '.join(parts)}, unlike these rows: name columns as its own are ({key}: [...], ignore: [...])"
            )
    return None


def _without(some: Sequence[str], others: Sequence[str]) -> list[str]:
    return [name for name in some if name not in others]
