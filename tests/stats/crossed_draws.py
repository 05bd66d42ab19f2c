"""The crossed bootstrap: one draw of units serves all seeds and both arms, one draw of seeds serves all tasks.

Owen's pigeonhole bootstrap (0712.1111). It errs on the wide side. An oracle for the variance components, on which
verdicts rest: with few seeds its draws are few distinct ones, so it decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tunemerge.stats.metrics import Metric
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.pseudo import unit_index, unit_sums

Floats = NDArray[np.float64]

# Rows x draws held at once: 32 MB of float64.
_CHUNK = 4_000_000


def crossed_bootstrap(
    arms: Sequence[Mapping[str, Sequence[Predictions]]], metric: Metric, draws: int = 1000, seed: int = 0
) -> Floats:
    """Draws [len(arms), draws] of each arm's score (higher is better): mean over tasks of the mean over seeds.

    Every arm maps the same tasks to the same seeds' predictions of the same rows. The metric is computed again in
    every draw; a draw in which it is undefined (AUROC with one class drawn) is nan.
    """
    rng = np.random.default_rng(seed)
    tasks = list(arms[0])
    seeds = len(arms[0][tasks[0]])
    drawn = _counts(rng, seeds, draws) / seeds
    out = np.zeros((len(arms), draws))
    for task in tasks:
        index, units = unit_index(arms[0][task][0])
        step = max(1, _CHUNK // len(index))
        for start in range(0, draws, step):
            size = min(step, draws - start)
            counts = _counts(rng, units, size)
            for a, arm in enumerate(arms):
                by_seed = _scores(arm[task], metric, counts, index)
                out[a, start : start + size] += (by_seed * drawn[start : start + size]).sum(axis=1) / len(tasks)
    return out


def _counts(rng: np.random.Generator, n: int, draws: int) -> Floats:
    """How often each of n things comes up in n draws with replacement, [draws, n]."""
    chosen = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


def _scores(seeds: Sequence[Predictions], metric: Metric, counts: Floats, index: NDArray[np.intp]) -> Floats:
    """Scores [draws, S] under draws of units `counts` [draws, N]."""
    if metric.is_mean:
        sums, weight = unit_sums(seeds, metric)
        return metric.sign * (counts @ sums.T) / (counts @ weight)[:, None]
    weights = counts[:, index] * seeds[0].weight
    return metric.sign * np.stack([metric.many(p.target, p.outputs, weights) for p in seeds], axis=1)
