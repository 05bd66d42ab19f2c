"""Two-way variance components: what test units and training seeds each add to the uncertainty of a mean.

All seeds are tested on the same units, so neither is nested in the other: an interval from seeds alone leaves out the
test set's own sampling, one from units alone leaves out training's randomness. Every function takes leading batch
dimensions, so that thousands of simulated studies go through the code that decides real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from tunemerge.stats.fewest import fewest

Floats = NDArray[np.float64]

# A variance below this share of the squared values is rounding, not variation.
_ROUNDING = 1e-24
# As many seeds as nobody trains: what these do not settle, no number does.
_ENDLESS = 10**9


@dataclass(frozen=True)
class TwoWay:
    """Variance components of the mean over tasks of the mean over seeds and units; all [...] but `by_seed` [..., S].

    `seed`, `unit`, `residual`: the mean squares as parts of the mean's variance, Vs, Vu, Vr. `variance` is their
    combination and `df` its degrees of freedom. `unit_df` belongs to the unit part alone.
    """

    mean: Floats
    by_seed: Floats
    seed: Floats
    unit: Floats
    residual: Floats
    variance: Floats
    df: Floats
    unit_df: Floats

    def half_width(self, level: float) -> Floats:
        """Half the width of the two-sided t interval at `level`."""
        return np.asarray(stdtrit(self.df, 0.5 + level / 2) * np.sqrt(self.variance), np.float64)

    def p(self) -> Floats:
        """Two-sided p value of "the mean is 0" (1 where neither mean nor variance differ from 0)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.mean == 0, 0.0, np.abs(self.mean) / np.sqrt(self.variance))
        return np.asarray(2 * stdtr(self.df, -t), np.float64)


def two_way(tasks: Sequence[Floats], overlap: float = 0.0) -> TwoWay:
    """Components from one array [..., S, N_t] a task; seeds are shared across tasks, units of tasks are independent.

    With the mean over tasks of d as estimate: Vs = var(seed means)/S, Vu = sum_t var(unit means_t)/N_t / T^2,
    Vr = sum_t residual mean square_t/(S N_t) / T^2. Vs + Vu - Vr is unbiased; V = max(Vs + Vu - Vr, Vs, Vu) never
    claims less than either part shows. With one seed only the unit part is known, and V = Vu.

    Degrees of freedom: 1/df = w/(S-1) + (1-w)/df_u with the seeds' share w = Vs/V and Satterthwaite's df_u for the
    sum of the tasks' unit parts. Satterthwaite's own formula has w^2 and (1-w)^2: it takes the estimated share at its
    word, and with 5 seeds the share is estimated low exactly when V is. In simulation it let p < .05/3, Holm's
    first hurdle, pass 2.5% of nulls and 6-7% of null studies with three pairs (benchmarks/null_studies.py: 5 seeds,
    3,000 units, seed SD 1.2); weighted linearly, which is never more degrees of freedom, 1.8% and 5%. The price is
    power: 3 points at 5 seeds and 600 units passed that hurdle in 32% of studies instead of 41%.

    `overlap` is n_test / n_train of runs that are folds and share a test set that stayed out: their training rows
    overlap, so Vs = var(seed means) (1/S + overlap), as in `folds`.

    Raises ValueError when a task has fewer than 2 units.
    """
    count, seeds = len(tasks), tasks[0].shape[-2]
    seed_means, units, residuals, unit_noise, scale = [], [], [], [], []
    for d in tasks:
        n = d.shape[-1]
        if n < 2:
            raise ValueError(f"{n} units; the variance over units needs at least 2")
        by_seed, by_unit = d.mean(axis=-1), d.mean(axis=-2)
        seed_means.append(by_seed)
        unit = by_unit.var(axis=-1, ddof=1) / n / count**2
        units.append(unit)
        unit_noise.append(unit**2 / (n - 1))
        scale.append((d**2).max(axis=(-2, -1)))
        residuals.append(_residual(d, by_seed, by_unit) / (seeds * n) / count**2)
    by_seed = np.mean(seed_means, axis=0)
    unit, residual = np.sum(units, axis=0), np.sum(residuals, axis=0)
    seed = by_seed.var(axis=-1, ddof=1) * (1 / seeds + overlap) if seeds > 1 else np.zeros_like(unit)
    variance = np.maximum(np.maximum(seed + unit - residual, seed), unit)
    unit_df = _ratio(unit**2, np.sum(unit_noise, axis=0), min(d.shape[-1] for d in tasks) - 1)
    share = _ratio(seed, variance, 0.0)
    df = 1 / (share / max(seeds - 1, 1) + (1 - share) / unit_df)
    variance = np.where(variance <= _ROUNDING * np.max(scale, axis=0), 0.0, variance)
    return TwoWay(by_seed.mean(axis=-1), by_seed, seed, unit, residual, variance, df, unit_df)


def _residual(d: Floats, by_seed: Floats, by_unit: Floats) -> Floats:
    """Mean square of what seed and unit leave open, from [..., S, N]; 0 with one seed.

    By the sums of squares of a balanced two-way layout: total - seeds - units.
    """
    seeds, n = d.shape[-2:]
    if seeds == 1:
        return np.zeros(d.shape[:-2])
    grand = by_seed.mean(axis=-1)[..., None]
    total = ((d - grand[..., None]) ** 2).sum(axis=(-2, -1))
    left = total - n * ((by_seed - grand) ** 2).sum(axis=-1) - seeds * ((by_unit - grand) ** 2).sum(axis=-1)
    return np.maximum(left, 0.0) / ((seeds - 1) * (n - 1))


def _ratio(top: Floats, bottom: Floats, otherwise: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(bottom > 0, top / bottom, otherwise), np.float64)


def smallest_detectable(parts: TwoWay, power: float = 0.8, level: float = 0.95) -> Floats:
    """The true difference that a study with these components would find at `level` with probability `power`."""
    t = stdtrit(parts.df, 0.5 + level / 2) + stdtrit(parts.df, power)
    return np.asarray(t * np.sqrt(parts.variance), np.float64)


def seeds_to_settle(parts: TwoWay, least: int, level: float = 0.95) -> int | None:
    """How many seeds (at least `least`) bring the half-width under |mean|, were mean and components to stay.

    None when even endless seeds would not: the unit part Vu - Vr stays, more test units are needed. None too with
    one seed, which says nothing about seeds. Unbatched components only.
    """
    seeds, target = len(parts.by_seed), abs(float(parts.mean))
    if seeds < 2 or target == 0:
        return None
    stays = max(float(parts.unit - parts.residual), 0.0)
    shrinks = max(float(parts.variance) - stays, 0.0) * seeds
    seed, unit_df = float(parts.seed) * seeds, float(parts.unit_df)

    def settled(count: float) -> bool:
        variance = stays + shrinks / count
        share = seed / count / variance if variance > 0 else 0.0
        df = 1 / (share / (count - 1) + (1 - share) / unit_df)
        return bool(stdtrit(df, 0.5 + level / 2) * np.sqrt(variance) < target)

    if not settled(_ENDLESS):
        return None
    return fewest(settled, least)
