"""Pseudo-values: what each unit contributes to a metric, so that any metric is a mean over units.

Means over rows: the ratio estimator's linearised values, exact for units of unequal size. Other metrics: delete-a-block
jackknife (Shao and Wu 1989). Either way the mean of the pseudo-values of a seed is the metric over its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunemerge.stats.metrics import Metric
from tunemerge.stats.predictions import Predictions

Floats = NDArray[np.float64]

BLOCKS = 50


def unit_index(predictions: Predictions) -> tuple[NDArray[np.intp], int]:
    """For each row the number of its unit (units in the order of their names), and how many units there are."""
    names, index = np.unique(predictions.unit.astype(str), return_inverse=True)
    return index, len(names)


def unit_sums(seeds: Sequence[Predictions], metric: Metric) -> tuple[Floats, Floats]:
    """For a metric that is a mean: weighted sums of its terms [S, N] and weights [N], by unit."""
    assert metric.per_row is not None
    index, units = unit_index(seeds[0])
    weight = np.bincount(index, seeds[0].weight, units).astype(np.float64)
    sums = [np.bincount(index, p.weight * metric.per_row(p.target, p.outputs), units) for p in seeds]
    return np.stack(sums).astype(np.float64), weight


def pseudo_values(seeds: Sequence[Predictions], metric: Metric) -> Floats:
    """Pseudo-values [S, N] of the score (lower-is-better metrics negated) of one task's predictions, one a seed.

    N is the number of units, or of blocks of units for a metric that is not a mean. nan where the metric is undefined.
    """
    if metric.is_mean:
        sums, weight = unit_sums(seeds, metric)
        value = sums.sum(axis=1, keepdims=True) / weight.sum()
        return metric.sign * (value + len(weight) * (sums - value * weight) / weight.sum())
    index, units = unit_index(seeds[0])
    blocks = min(units, BLOCKS)
    # The deal is random with respect to labels (a stratified one would hide their sampling), yet always the same.
    block = np.random.default_rng(0).permutation(units)[index] % blocks
    weight = seeds[0].weight
    share = np.bincount(block, weight, blocks) / weight.sum()
    weights = np.where(block == np.arange(-1, blocks)[:, None], 0.0, weight)
    rows = []
    for p in seeds:
        values = metric.many(p.target, p.outputs, weights)
        # B (1 - share) (whole - without b) is the linearised value where the metric is a mean, whatever the shares.
        influence = blocks * (1 - share) * (values[0] - values[1:])
        rows.append(values[0] + influence - influence.mean())
    return metric.sign * np.stack(rows)
