"""Do these models come from one base? Measured on a sample of elements, read in milliseconds.

Models tuned from one base keep its weights nearly: element by element they correlate at 0.9 and more. Models trained
apart correlate at about 0, and their differences from a base then point the same way, away from it, with a cosine near
0.5. A merge of such models is noise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import FLOATS, NUMPY, to_float32
from tunemerge.checkpoint.naming import is_table
from tunemerge.checkpoint.source import Model
from tunemerge.findings import Finding, warning
from tunemerge.merge.plan import Input, MergePlan, TensorPlan

TENSORS, ELEMENTS = 8, 1 << 14
"""Of this many matrices, spread over the model, this many elements each."""

UNRELATED = 0.5
"""A correlation below this is no fine-tuning."""


def lineage_findings(plan: MergePlan, models: Sequence[Model], absent: Collection[int] = ()) -> list[Finding]:
    """A warning for each model whose weights are not related to those it is merged with.

    Models whose numbers are in `absent` have no values yet.
    """
    found: dict[int, list[float]] = {}
    cosines: dict[int, list[float]] = {}
    origin = {}
    for tensor in _sample(plan, models, absent):
        first, *others = [tensor.base, *tensor.inputs] if tensor.base else tensor.inputs
        start = _values(models, first)
        deltas = {}
        for other in others:
            values = _values(models, other)
            deltas[other.model] = values - start
            correlation = _cosine(values - values.mean(), start - start.mean())
            if correlation is not None:
                found.setdefault(other.model, []).append(correlation)
                origin[other.model] = first.model
        for model, delta in deltas.items():
            rest = [_cosine(delta, d) for m, d in deltas.items() if m != model]
            cosines.setdefault(model, []).extend(c for c in rest if c is not None)
    return [
        _finding(plan.models[model], plan.models[origin[model]], median(values), cosines.get(model, []))
        for model, values in sorted(found.items())
        if median(values) < UNRELATED
    ]


def _finding(model: str, base: str, correlation: float, cosines: Sequence[float]) -> Finding:
    text = f"its weights correlate with those of {base} at {correlation:.2f}; models tuned from one base show over 0.9"
    if cosines:
        text += f" (cosine with the other models' differences: {median(cosines):.2f}; unrelated models show 0.5)"
    fix = "take models tuned from one base, and that base; `align` helps models that were trained apart on one task"
    return warning("lineage", text, model, fix)


def _sample(plan: MergePlan, models: Sequence[Model], absent: Collection[int]) -> list[TensorPlan]:
    """Matrices with several inputs, evenly over the names; embeddings only where there is nothing else."""
    fit = [
        t
        for t in plan.tensors
        if not t.copy and len(t.shape) > 1 and t.size >= 64 and len({*t.inputs, t.base} - {None}) > 1
        if not any(i.model in absent for i in (*t.inputs, *([t.base] if t.base else [])))
    ]
    inner = [t for t in fit if not is_table(t.name)] or fit
    step = max(1, len(inner) // TENSORS)
    chosen = inner[::step][:TENSORS]
    return [t for t in chosen if all(models[i.model].tensors[i.name].dtype in FLOATS for i in t.inputs)]


def _values(models: Sequence[Model], entry: Input) -> NDArray[np.float64]:
    source, size = models[entry.model].source(entry.name), models[entry.model].tensors[entry.name].size
    raw = np.empty(min(ELEMENTS, size), NUMPY[source.dtype])
    source.read_into(raw, (size - raw.size) // 2)
    wide = raw if source.dtype == "F64" else to_float32(raw, source.dtype)
    return wide.astype(np.float64)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 and np.isfinite(norms) else None
