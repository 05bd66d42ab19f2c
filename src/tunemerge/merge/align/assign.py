"""The best permutation of one group, given how alike its units are: assignments, on one level or on two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunemerge.merge.align.groups import Group
from tunemerge.merge.align.orders import Index, unmoved
from tunemerge.merge.align.similarity import Alikeness, Matrix

_ROUNDS = 8
"""Rounds over the symmetries inside one unit, where they share elements; two or three are usual."""


@dataclass(frozen=True)
class Assignment:
    """`units` and `inside` as `orders.rearranged` takes them; the inner product before and after."""

    units: Index
    inside: list[Index]
    before: float
    after: float


def assign(group: Group, alike: Alikeness) -> Assignment:
    """The permutation of a group with the greatest inner product; the assignment is exact on each level."""
    n = group.units
    before = float(np.trace(alike.units)) + sum(float(np.einsum("ibib->", e)) for e in alike.elements.values())
    inner = _Inner.of(group)
    scores = alike.units
    if inner.positions and group.movable:
        scores = scores + np.array([[inner.best(alike, i, j)[0] for j in range(n)] for i in range(n)])
    units = np.arange(n) if not group.movable else best_assignment(scores)
    inside = unmoved(group)
    after = float(alike.units[np.arange(n), units].sum())
    for i, j in enumerate(units.tolist() if inner.positions else []):
        value, arranged = inner.best(alike, i, j)
        after += value
        for number, order in enumerate(arranged):
            inside[number][i] = order
    return Assignment(units, inside, before, after)


def best_assignment(scores: Matrix) -> Index:
    """The column for each row that together have the greatest sum."""
    from scipy.optimize import linear_sum_assignment  # half a second, which merges without alignment do not pay

    return np.asarray(linear_sum_assignment(scores, maximize=True)[1], np.int64)


@dataclass(frozen=True)
class _Inner:
    """The symmetries within a unit: `positions[k]` has, for each part of the k-th, (entry, elements (units, block)).

    `waits[k]`: the same, where it stays comparable while later symmetries are still open.
    """

    blocks: tuple[int, ...]
    positions: list[list[tuple[int, Index]]]
    waits: list[list[bool]]

    @classmethod
    def of(cls, group: Group) -> _Inner:
        positions = [
            [
                (p.entry, p.start + np.arange(inside.units * p.block).reshape(inside.units, p.block))
                for p in inside.parts
            ]
            for inside in group.inside
        ]
        later = [
            {(e, int(i)) for parts in positions[k + 1 :] for e, at in parts for i in at.flat}
            for k in range(len(positions))
        ]
        waits = [
            [any((e, int(i)) in later[k] for i in at.flat) for e, at in parts] for k, parts in enumerate(positions)
        ]
        return cls(tuple(axis.block for axis in group.axes), positions, waits)

    def best(self, alike: Alikeness, i: int, j: int) -> tuple[float, list[Index]]:
        """The reference's unit i against the model's unit j: the inner product at the best arrangement of j.

        Also, by axis of the group, which of j's elements comes where.
        """
        pair = {entry: matrix[i, :, j, :] for entry, matrix in alike.elements.items()}
        orders = [np.arange(block, dtype=np.int64) for block in self.blocks]
        for round_ in range(_ROUNDS if any(map(any, self.waits)) else 1):
            changed = False
            for parts, waits in zip(self.positions, self.waits, strict=True):
                heard = [(e, at, wait) for (e, at), wait in zip(parts, waits, strict=True) if e in pair]
                ready = [(e, at) for e, at, wait in heard if round_ or not wait] or [(e, at) for e, at, _ in heard]
                if not ready:
                    continue
                scores = sum(
                    pair[e][at[:, None, :], orders[e][at][None, :, :]].sum(-1, dtype=np.float64) for e, at in ready
                )
                chosen = best_assignment(np.asarray(scores))
                changed |= bool((chosen != np.arange(chosen.size)).any())
                for e, at in parts:
                    orders[e][at.reshape(-1)] = orders[e][at[chosen].reshape(-1)]
            if round_ and not changed:
                break
        value = sum(float(m[np.arange(m.shape[0]), orders[e]].sum(dtype=np.float64)) for e, m in pair.items())
        return value, orders
