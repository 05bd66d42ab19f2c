"""Adapters combined without ever forming the matrices that they stand for. Pure functions of factors, in float64.

Every function takes pairs (b (out, rank), a (rank, in)), one a model, whose product is the model's change of one
weight, and returns such a pair. Time and memory grow with the sum of the ranks, not with out * in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunemerge.checkpoint.dtypes import Array

Pair = tuple[Array, Array]
Rule = Callable[[Sequence[Array]], Array]
"""Merges matrices of one shape, each the change of one model, into one."""


def concatenate(pairs: Sequence[Pair], weights: Sequence[float]) -> Pair:
    """The weighted sum itself, exactly: the factors side by side. The rank is the sum of the ranks."""
    return (
        np.concatenate([weight * b for weight, (b, _) in zip(weights, pairs, strict=True)], axis=1),
        np.concatenate([a for _, a in pairs]),
    )


def recompress(pair: Pair, rank: int | None = None, energy: float | None = None) -> Pair:
    """The best approximation of b @ a of at most this rank, or the least that keeps the share `energy` of its square.

    Singular values that are zero to rounding are dropped; a change of zero has rank 0. Both factors get the square
    roots of the singular values.
    """
    q_b, r_b = np.linalg.qr(pair[0])
    q_a, r_a = np.linalg.qr(pair[1].T)
    left, values, right = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    keep = _numerical_rank(values, pair)
    if energy is not None and keep:
        share = np.cumsum(values[:keep] ** 2)
        keep = min(keep, int(np.searchsorted(share, energy * share[-1] * (1 - 1e-12))) + 1)
    keep = min(keep, rank or keep)
    roots = np.sqrt(values[:keep])
    return q_b @ (left[:, :keep] * roots), (roots[:, None] * right[:keep]) @ q_a.T


def knots(pairs: Sequence[Pair], rule: Rule) -> Pair:
    """KnOTS (Stoica et al. 2024, 2410.19735): align the changes through one SVD of them side by side, then merge.

    [change_1 ... change_n] = U [S V_1 ... S V_n]: all models share U, and `rule` merges the right factors S V_i, which
    now mean the same in all of them. The SVD is of the triangle of the left factors times the right ones, a matrix
    (sum of ranks, n * in).
    """
    q, triangle = np.linalg.qr(np.concatenate([b for b, _ in pairs], axis=1))
    ends = np.cumsum([b.shape[1] for b, _ in pairs])[:-1]
    cores = [part @ a for part, (_, a) in zip(np.split(triangle, ends, axis=1), pairs, strict=True)]
    left, values, right = np.linalg.svd(np.concatenate(cores, axis=1), full_matrices=False)
    keep = _numerical_rank(values, (q, right))
    if not keep:
        return q[:, :0], np.zeros((0, pairs[0][1].shape[1]))
    shared = np.ascontiguousarray(values[:keep, None] * right[:keep])
    merged = rule([np.ascontiguousarray(part) for part in np.split(shared, len(pairs), axis=1)])
    return q @ left[:, :keep], merged


def _numerical_rank(values: Array, sides: Pair) -> int:
    size = max(sides[0].shape[0], sides[1].shape[1])
    return int((values > values[:1] * size * np.finfo(np.float64).eps).sum()) if values.size else 0
