"""The corrected resampled t test: what runs whose training rows overlap say of a difference.

In cross-validation every run trains on most of the rows that the other runs train on, and what one run is tested on,
the others were trained on. The variance of a mean over J runs is therefore more than s^2/J. Nadeau and Bengio (2003,
Machine Learning 52) give s^2 (1/J + n_test/n_train); Bouckaert and Frank (2004) show that it holds up where a k-fold
cross-validation is repeated (J = k times the repetitions). No unbiased estimate exists (Bengio and Grandvalet 2004):
this is the accepted approximation, checked here by `benchmarks/null_folds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tunemerge.stats.fewest import fewest
from tunemerge.stats.metrics import Metric
from tunemerge.stats.predictions import Predictions
from tunemerge.stats.twoway import TwoWay

Floats = NDArray[np.float64]

# As many repetitions as nobody runs: what these do not settle, no number does.
_ENDLESS = 10**6
_ROUNDING = 1e-24


@dataclass(frozen=True)
class Folds:
    """`number` folds, each held out by one run of a repetition. `overlap` is n_test / n_train: a run's held-out rows
    over those that the folds leave it."""

    number: int
    overlap: float


def fold_scores(seeds: Sequence[Predictions], metric: Metric) -> Floats:
    """The score (higher is better) of each run on the rows that it held out: [J]; nan where it is undefined."""
    return np.array([metric.sign * metric.fn(p.target, p.outputs, p.weight) for p in seeds])


def resampled(by_run: Floats, overlap: float) -> TwoWay:
    """The mean over J runs, [..., J], with the corrected variance and J - 1 degrees of freedom.

    As components: the `seed` part s^2/J shrinks with more runs, the `unit` part s^2 n_test/n_train does not.
    Raises ValueError with fewer than two runs.
    """
    runs = by_run.shape[-1]
    if runs < 2:
        raise ValueError(f"{runs} run; the variance over folds needs at least 2")
    spread = by_run.var(axis=-1, ddof=1)
    spread = np.where(spread <= _ROUNDING * (by_run**2).max(axis=-1), 0.0, spread)
    df = np.full(spread.shape, float(runs - 1))
    return TwoWay(
        mean=by_run.mean(axis=-1),
        by_seed=by_run,
        seed=spread / runs,
        unit=spread * overlap,
        residual=np.zeros_like(spread),
        variance=spread * (1 / runs + overlap),
        df=df,
        unit_df=df,
    )


def repetitions_to_settle(parts: TwoWay, folds: Folds, level: float = 0.95) -> int | None:
    """How often the whole cross-validation must run to bring the half-width under |mean|, were mean and spread to stay.

    None when no number would: the part that the training rows share stays. Unbatched components only.
    """
    target, spread = abs(float(parts.mean)), float(parts.seed) * len(parts.by_seed)
    if target == 0:
        return None

    def settled(repetitions: int) -> bool:
        runs = repetitions * folds.number
        half = stdtrit(runs - 1, 0.5 + level / 2) * np.sqrt(spread * (1 / runs + folds.overlap))
        return bool(half < target)

    if not settled(_ENDLESS):
        return None
    return fewest(settled)
