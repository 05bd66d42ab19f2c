"""PCB: products of all pairs of deltas, their range, and the softmax of each over the tensor.

Pairs are (0, 0), (0, 1), ..., (1, 1), ... Everything is float64. Products are brought to 0..1 by their range before
the exponential, so that a polynomial is enough for it, and the loops become vector instructions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import F64, LANE_SUMS, LANES, READ_F64, READ_MASKS, READ_ROWS_F64, STORED

_CHUNK = 512
_ROOT = math.exp(0.5)
_TERMS = tuple(_ROOT / math.factorial(k) for k in range(15))
"""Taylor's for the exponential at 0.5: within 0..1 exact to float64's last place."""


@njit(inline="always")
def _deltas(rows, base, start, stop, out):  # type: ignore[no-untyped-def]
    for i in range(rows.shape[0]):
        row, under, delta = rows[i, start:stop], base[start:stop], out[i]
        for j in range(row.size):
            delta[j] = np.float64(number(row[j])) - np.float64(number(under[j]))


@njit(inline="always")
def _exponentials(deltas, size, low, scale, out):  # type: ignore[no-untyped-def]
    """out[pair] = exp((product - low) * scale), which is between 1 and e."""
    pair = 0
    for i in range(deltas.shape[0]):
        for k in range(i, deltas.shape[0]):
            a, b, part = deltas[i], deltas[k], out[pair]
            under, by = low[pair], scale[pair]
            for j in range(size):
                x = (a[j] * b[j] - under) * by - 0.5
                y = _TERMS[14]
                for term in (
                    _TERMS[13], _TERMS[12], _TERMS[11], _TERMS[10], _TERMS[9], _TERMS[8], _TERMS[7],
                    _TERMS[6], _TERMS[5], _TERMS[4], _TERMS[3], _TERMS[2], _TERMS[1], _TERMS[0],
                ):  # fmt: skip
                    y = y * x + term
                part[j] = y
            pair += 1


@njit(inline="always")
def _power(values, size, exponent, out):  # type: ignore[no-untyped-def]
    for j in range(size):
        out[j] = values[j]
    for _ in range(exponent - 1):
        for j in range(size):
            out[j] *= values[j]


@njit(inline="always")
def _add(values, size, sums):  # type: ignore[no-untyped-def]
    whole = size - size % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane] += values[start + lane]
    for j in range(whole, size):
        sums[j - whole] += values[j]


@kernel([types.void(rows, base, F64, F64) for rows, base, _ in STORED])
def widen_ranges(rows, base, low, high):  # type: ignore[no-untyped-def]
    """Widen low[pair] and high[pair] to take in all products of a block."""
    models = rows.shape[0]
    deltas = np.empty((models, _CHUNK), np.float64)
    least, most = np.full((low.size, LANES), np.inf), np.full((low.size, LANES), -np.inf)
    for start in range(0, base.size, _CHUNK):
        size = min(_CHUNK, base.size - start)
        whole = size - size % LANES
        _deltas(rows, base, start, start + size, deltas)
        pair = 0
        for i in range(models):
            for k in range(i, models):
                a, b, lows, highs = deltas[i], deltas[k], least[pair], most[pair]
                for at in range(0, whole, LANES):
                    for lane in range(LANES):
                        product = a[at + lane] * b[at + lane]
                        lows[lane] = min(lows[lane], product)
                        highs[lane] = max(highs[lane], product)
                for j in range(whole, size):
                    lows[j - whole] = min(lows[j - whole], a[j] * b[j])
                    highs[j - whole] = max(highs[j - whole], a[j] * b[j])
                pair += 1
    for pair in range(low.size):
        for lane in range(LANES):
            low[pair], high[pair] = min(low[pair], least[pair, lane]), max(high[pair], most[pair, lane])


@kernel([types.void(rows, base, READ_F64, READ_F64, LANE_SUMS) for rows, base, _ in STORED])
def add_exponentials(rows, base, low, scale, lanes):  # type: ignore[no-untyped-def]
    """Add the exponential of every pair to its lanes, and behind those its power `models` of every pair (i, i)."""
    models = rows.shape[0]
    pairs = low.size
    deltas, found = np.empty((models, _CHUNK), np.float64), np.empty((pairs, _CHUNK), np.float64)
    raised = np.empty(_CHUNK, np.float64)
    for start in range(0, base.size, _CHUNK):
        size = min(_CHUNK, base.size - start)
        _deltas(rows, base, start, start + size, deltas)
        _exponentials(deltas, size, low, scale, found)
        for pair in range(pairs):
            _add(found[pair], size, lanes[pair])
        own = 0
        for i in range(models):
            _power(found[own], size, models, raised)
            _add(raised, size, lanes[pairs + i])
            own += models - i


@kernel(
    [types.void(rows, base, READ_F64, READ_F64, READ_F64, types.float64[:, ::1]) for rows, base, _ in STORED],
)
def balances(rows, base, low, scale, shares, out):  # type: ignore[no-untyped-def]
    """out[i] = softmax of N * own square, times the sum over all models of the softmax of the product with them.

    `shares` are 1 over what the exponentials of `add_exponentials` add up to.
    """
    models = rows.shape[0]
    pairs = low.size
    deltas, found = np.empty((models, _CHUNK), np.float64), np.empty((pairs, _CHUNK), np.float64)
    raised, inter = np.empty(_CHUNK, np.float64), np.empty(_CHUNK, np.float64)
    for start in range(0, base.size, _CHUNK):
        size = min(_CHUNK, base.size - start)
        _deltas(rows, base, start, start + size, deltas)
        _exponentials(deltas, size, low, scale, found)
        own = 0
        for i in range(models):
            inter[:] = 0.0
            for k in range(models):
                first, second = min(i, k), max(i, k)
                pair = first * models - first * (first - 1) // 2 + second - first
                values, share = found[pair], shares[pair]
                for j in range(size):
                    inter[j] += values[j] * share
            _power(found[own], size, models, raised)
            part, share = out[i, start : start + size], shares[pairs + i]
            for j in range(size):
                part[j] = raised[j] * share * inter[j]
            own += models - i


@kernel(
    [types.void(rows, base, READ_ROWS_F64, READ_MASKS, types.float64, out) for rows, base, out in STORED],
)
def add_balanced(rows, base, weights, keep, scale, out):  # type: ignore[no-untyped-def]
    """out = base + scale * mean of kept deltas by `weights` (models, length); the base where none is kept."""
    mixed, shares = np.empty(_CHUNK, np.float64), np.empty(_CHUNK, np.float64)
    for start in range(0, out.size, _CHUNK):
        part, under = out[start : start + _CHUNK], base[start : start + _CHUNK]
        mixed[:] = 0.0
        shares[:] = 0.0
        for i in range(rows.shape[0]):
            row, weight = rows[i, start : start + _CHUNK], weights[i, start : start + _CHUNK]
            stays = keep[i, start : start + _CHUNK]
            for j in range(part.size):
                share = weight[j] if stays[j] else 0.0
                mixed[j] += share * (np.float64(number(row[j])) - np.float64(number(under[j])))
                shares[j] += share
        for j in range(part.size):
            part[j] = np.float64(number(under[j])) + scale * (mixed[j] / (shares[j] if shares[j] != 0 else 1.0))
