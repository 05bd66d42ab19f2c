"""What money would have done that followed an arm's predicted returns, over all tasks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tunemerge.results import PortfolioResult
from tunemerge.stats.portfolio import Book, Panel, drawdown, mean_return, sharpe, together, volatility, worth
from tunemerge.stats.predictions import Predictions


def portfolio(tested: Mapping[str, Sequence[Predictions]], folds: int | None) -> PortfolioResult:
    """`tested`: by task, predictions of returns, one a run. The folds of a repetition follow each other in time and are
    one portfolio; else each seed is one."""
    runs = len(next(iter(tested.values())))
    stretches = [range(i, i + (folds or 1)) for i in range(0, runs, folds or 1)]
    books = [together([_book([own[run] for run in stretch]) for own in tested.values()]) for stretch in stretches]
    costs = {float(c) for own in tested.values() for p in own for c in np.unique(p.target[:, 3])}
    figures = (float(np.mean([f(b) for b in books])) for f in (mean_return, volatility, sharpe, drawdown))
    returned, spread, ratio, loss = figures
    return PortfolioResult(
        mean_return=returned,
        volatility=spread,
        sharpe=ratio,
        drawdown=loss,
        cost=1e4 * costs.pop() if len(costs) == 1 else None,
        days=books[0].days.tolist(),
        worth=worth(books[0]).tolist(),
    )


def _book(parts: Sequence[Predictions]) -> Book:
    target, outputs = (np.concatenate([getattr(p, name) for p in parts]) for name in ("target", "outputs"))
    return Panel.of(target, outputs).book(np.concatenate([p.weight for p in parts]))
