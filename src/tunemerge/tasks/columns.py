"""From columns of a table to columns of rows, shared by kinds: every fault is a finding that names its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BeforeValidator

from tunemerge.findings import Finding, error
from tunemerge.registry import listed, nearest


def _with_text_keys(labels: Any) -> Any:
    """Raw labels are compared as text, so 0 and "0" are the same key."""
    return {str(k): v for k, v in labels.items()} if isinstance(labels, dict) else labels


Labels = Annotated[dict[str, str], BeforeValidator(_with_text_keys)]


def label_column(raw: Any, labels: Mapping[str, str], where: str) -> tuple[pd.Series, list[Finding]]:
    """Labels as names, renamed where `labels` says so; raw values that it does not name are an error."""
    label = raw.astype(str)
    if not labels:
        return label, []
    found = []
    unknown = sorted(set(label) - set(labels))
    if unknown:
        close = nearest(unknown[0], list(map(str, labels)))
        hint = close if "mean" in close else f"; `labels` has {listed(labels)}"
        message = f"label values that `labels` does not name: {listed(map(repr, unknown))}{hint}"
        found.append(error("unknown-label", message, where, "add them to `labels:`, raw value to label name"))
    return label.map(dict(labels)), found


def value_column(raw: Any, name: str, where: str) -> tuple[pd.Series, list[Finding]]:
    """Finite numbers (float64); anything else is an error that names the first rows and values."""
    values = pd.to_numeric(raw, errors="coerce").astype(np.float64)
    wrong = raw.index[~np.isfinite(values)]
    if wrong.empty:
        return values, []
    shown = listed((f"{raw[i]!r} in data row {i + 1}" for i in wrong), 3)
    text = f"{len(wrong)} rows have no finite number in {name!r}: {shown}"
    return values, [error("not-a-number", text, where, "mend or delete these rows")]


def label_names(rows: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    """Every label that occurs, sorted."""
    return tuple(sorted({str(label) for frame in rows for label in frame["label"].unique()}))
