"""What all kinds share that predict classes: the loss, and what splits must have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from tunemerge.findings import Finding, error
from tunemerge.registry import listed

TRAINED = ("source", "adapt")


def cross_entropies(logits: Any, target: Any, smoothing: float) -> Any:
    """Of every row, float32 (batch,)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)


def class_findings(parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
    """Splits of one class, and labels that training lacks."""
    found = []
    for split, rows in parts.items():
        labels = set(rows["label"])
        if len(labels) == 1:
            found.append(error("one-class", f"all {split} rows have the label {labels.pop()!r}", where))
    known = set().union(*(set(parts[s]["label"]) for s in TRAINED if s in parts))
    if known:
        for split in ("validation", "test", "held_out"):
            if split in parts:
                found += strange_labels(parts[split], split, known, where)
    return found


def strange_labels(rows: pd.DataFrame, split: str, known: Iterable[str], where: str) -> list[Finding]:
    """Rows with labels that training lacks, the first of them named."""
    strange = rows[~rows["label"].isin(set(known))]
    if strange.empty:
        return []
    first = strange.iloc[0]
    text = (
        f"{len(strange)} {split} rows have labels that training lacks, first {first['label']!r} in data row "
        f"{int(strange.index[0]) + 1}; training has {listed(map(repr, sorted(known)))}"
    )
    return [error("label-not-in-training", text, where, "map the label with `labels:` or delete the rows")]
