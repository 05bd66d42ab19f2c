"""Candidate numbers for a search on validation: fixed lists, continued evenly when more are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice


def halving(low: float, high: float) -> Iterator[float]:
    """Numbers strictly between low and high that fill the range evenly at any count (van der Corput)."""
    index = 1
    while True:
        fraction, step, rest = 0.0, 0.5, index
        while rest:
            fraction += step * (rest % 2)
            rest, step = rest // 2, step / 2
        yield low + (high - low) * fraction
        index += 1


def spread(first: Sequence[float], low: float, high: float, k: int) -> list[float]:
    """k different numbers: those of `first`, then more from between low and high."""
    out = list(first[:k])
    seen = {round(x, 9) for x in out}
    for x in halving(low, high):
        if len(out) >= k:
            break
        if round(x, 9) not in seen:
            seen.add(round(x, 9))
            out.append(x)
    return out


def pairs(first: Sequence[float], second: Sequence[float], k: int) -> list[tuple[float, float]]:
    """k pairs of a number of each list, earlier numbers first: the diagonals of their table.

    Where the table has fewer than k cells, the first list goes on with numbers from within its range.
    """
    rows = list(first)
    while len(rows) * len(second) < k:
        rows = spread(first, min(first), max(first), len(rows) + 1)
    cells = ((i, s - i) for s in range(len(rows) + len(second)) for i in range(s + 1))
    inside = ((rows[i], second[j]) for i, j in cells if i < len(rows) and j < len(second))
    return list(islice(inside, k))


def tilted(n_models: int, k: int) -> list[list[float]]:
    """At most k lists of weights: all equal, then each model in turn at double weight, at fourfold, at eightfold...

    Only whole rounds, so that no model is favoured by its place in the list: 1, 1 + n, 1 + 2n... lists for n models.
    """
    out = [[1.0] * n_models]
    for step in range(1, (k - 1) // n_models + 1):
        out += [[2.0**step if i == more else 1.0 for i in range(n_models)] for more in range(n_models)]
    return out
