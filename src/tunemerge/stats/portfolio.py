"""A long/short portfolio that follows predicted returns, after costs: from stored predictions alone.

On every day each asset gets a share of the money, long or short, so that the shares' sizes add up to 1; the shares are
held until the next day on which something is predicted. With five assets or more the shares are the ranks of the
day's predictions about their middle, so that longs and shorts balance; with fewer each asset is long or short by the
sign of its prediction. A change of shares costs its size times the cost of a trade; so does the first purchase. What
prices do to shares between two days is not traded back, and lending for shorts is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# From so many assets on, what counts is which is better than which; below, whether each rises.
BALANCED = 5
_YEAR = 365.25
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Book:
    """What the portfolio earned on each day, after costs [T], as a share of the money, how much each day counts [T],
    how many such days a year has, and the days [T]."""

    net: Floats
    weight: Floats
    per_year: float
    days: Floats

    @cached_property
    def mean(self) -> float:
        return float(np.average(self.net, weights=self.weight))

    @cached_property
    def spread(self) -> float:
        spread = float(np.sqrt(np.average((self.net - self.mean) ** 2, weights=self.weight)))
        return spread if spread > _ROUNDING * (abs(self.mean) + _ROUNDING) else 0.0


@dataclass(frozen=True)
class Panel:
    """Rows by day and asset: `cell` [n] is the place of each row in a table of T days (in order) and A assets, whose
    `predicted` and `returned` are [T, A] (rows of one day and asset are one)."""

    cell: NDArray[np.intp]
    days: Floats
    predicted: Floats
    returned: Floats
    cost: Floats

    @classmethod
    def of(cls, target: Floats, values: Floats) -> Self:
        """`target` [n, 4]: return, day, asset, cost; `values` [n, 1]."""
        days, day = np.unique(target[:, 1], return_inverse=True)
        assets, asset = np.unique(target[:, 2], return_inverse=True)
        cell = day * len(assets) + asset
        tables = []
        for column in (values[:, 0], target[:, 0], target[:, 3]):
            table = np.zeros(len(days) * len(assets))
            table[cell] = column
            tables.append(table.reshape(len(days), -1))
        return cls(cell, days, *tables)

    @property
    def balanced(self) -> bool:
        return self.predicted.shape[1] >= BALANCED

    def weights(self, weight: Floats) -> Floats:
        """The rows' weights as a table [T, A]; 0 where there is no row."""
        table = np.bincount(self.cell, weight, self.predicted.size).astype(np.float64)
        return table.reshape(self.predicted.shape)

    def book(self, weight: Floats) -> Book:
        """The book under these weights of rows [n]; days on which no row has a weight are left out."""
        table = self.weights(weight)
        there = table.any(axis=1)
        table, days = table[there], self.days[there]
        shares = self._shares(self.predicted[there], table)
        traded = np.abs(np.diff(shares, axis=0, prepend=0.0))
        # What is sold may be an asset without a row today: its cost is then the highest of all.
        cost = np.where(table > 0, self.cost[there], self.cost.max())
        net = (shares * self.returned[there]).sum(axis=1) - (traded * cost).sum(axis=1)
        return Book(net, _of_days(table), _per_year(days), days)

    def _shares(self, predicted: Floats, weight: Floats) -> Floats:
        """What is held on each day [T, A]; nothing of an asset of weight 0. A weight of two is the asset twice."""
        held = weight * (centred_ranks(predicted, weight) if self.balanced else np.sign(predicted))
        size = np.abs(held).sum(axis=1, keepdims=True)
        return np.divide(
            held, size, out=np.zeros_like(held), where=size > _ROUNDING * weight.sum(axis=1, keepdims=True)
        )


def together(books: Sequence[Book]) -> Book:
    """An equal part of the money in every book, also on days on which only others trade: no book borrows theirs."""
    days, place = np.unique(np.concatenate([b.days for b in books]), return_inverse=True)
    net = np.bincount(place, np.concatenate([b.net for b in books])) / len(books)
    return Book(net, np.ones(len(days)), _per_year(days), days)


def worth(book: Book) -> Floats:
    """What one unit of money has become after each day [T], earnings kept invested."""
    return np.asarray(np.cumprod(np.maximum(1 + book.net, 0.0)), np.float64)


def _per_year(days: Floats) -> float:
    """How many such days a year has."""
    span = days[-1] - days[0]
    return float((len(days) - 1) * _YEAR / span) if span > 0 else 1.0


def _of_days(table: Floats) -> Floats:
    """How much each day counts [T]: the mean weight of its assets."""
    return np.asarray(table.sum(axis=1) / (table > 0).sum(axis=1), np.float64)


def centred_ranks(values: Floats, weight: Floats) -> Floats:
    """Within each day [T, A] the share of the weight below a value less that above it; 0 where all are equal."""
    below = values[:, None, :] < values[:, :, None]
    difference = (below * weight[:, None, :]).sum(axis=2) - (below * weight[:, :, None]).sum(axis=1)
    total = weight.sum(axis=1, keepdims=True)
    return np.divide(difference, total, out=np.zeros_like(difference), where=total > 0)


def correlation(panel: Panel, weight: Floats) -> float:
    """Rank correlation of predictions and returns: of each day's assets, mean over days with two or more; or, with few
    assets, of all rows. 0 where one side is all the same."""
    table = panel.weights(weight)
    if not panel.balanced:
        one_day = (a.reshape(1, -1) for a in (panel.predicted, panel.returned, table))
        return float(_by_day(*one_day)[0])
    days = (table > 0).sum(axis=1) > 1
    if not days.any():
        return 0.0
    found = _by_day(panel.predicted[days], panel.returned[days], table[days])
    return float(np.average(found, weights=_of_days(table[days])))


def _by_day(predicted: Floats, returned: Floats, weight: Floats) -> Floats:
    a, b = (_ranks(v, weight) if len(v) == 1 else centred_ranks(v, weight) for v in (predicted, returned))
    size = np.sqrt((weight * a**2).sum(axis=1) * (weight * b**2).sum(axis=1))
    floor = _ROUNDING * weight.sum(axis=1)
    return np.divide((weight * a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > floor)


def _ranks(values: Floats, weight: Floats) -> Floats:
    """`centred_ranks` of one long day, by sorting."""
    order = np.argsort(values[0], kind="stable")
    ordered = values[0][order]
    below = np.concatenate([[0.0], np.cumsum(weight[0][order])])
    first, last = (below[np.searchsorted(ordered, values[0], side=side)] for side in ("left", "right"))
    return np.asarray((first + last - below[-1]) / below[-1])[None, :]


def mean_return(book: Book) -> float:
    """A year's mean return, not compounded."""
    return book.mean * book.per_year


def volatility(book: Book) -> float:
    """A year's standard deviation."""
    return float(book.spread * np.sqrt(book.per_year))


def sharpe(book: Book) -> float:
    """Mean return over volatility, without a riskless rate; 0 where nothing is held."""
    return mean_return(book) / volatility(book) if book.spread > 0 else 0.0


def drawdown(book: Book) -> float:
    """The largest loss from a peak, as a share; no more than all is lost."""
    path = np.concatenate([[1.0], worth(book)])
    peak = np.maximum.accumulate(path)
    return float((1 - path / peak).max())
