"""For studies that have classes and values: each task by what suits it, told apart by the dtype of its targets."""

from __future__ import annotations

import numpy as np

from tunemerge.stats.measures.classes import correct
from tunemerge.stats.measures.values import r2
from tunemerge.stats.metrics import BOTH, EITHER, METRICS, Floats, Metric, Targets, mean_of


def _accuracy_or_r2(target: Targets, outputs: Floats, weights: Floats) -> Floats:
    classes = np.issubdtype(target.dtype, np.integer)
    return mean_of(correct)(target, outputs, weights) if classes else r2(target, outputs, weights)


METRICS.add(BOTH, Metric(BOTH, True, _accuracy_or_r2, lower=-np.inf, prediction=EITHER))
