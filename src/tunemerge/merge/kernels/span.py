"""Dot products of task vectors, and sums of them whose bits don't depend on the order of the models.

Where there is no base, zeros stand for it. Differences, products and sums are float64 whatever comes in.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import LANE_SUMS, LANES, READ_ROWS_F64, STORED

_CHUNK, _SHORT = 1024, 512
"""Elements taken at once for products and for sums, which need more room in the nearest cache."""
_DEEP = 4 * LANES
_EXPONENT = np.uint64(0x7FF0000000000000)


@njit(inline="always")
def _widen(rows, base, start, stop, deltas):  # type: ignore[no-untyped-def]
    """deltas[i] = rows[i] - base over [start, stop)."""
    for i in range(rows.shape[0]):
        row, under, delta = rows[i, start:stop], base[start:stop], deltas[i]
        for j in range(row.size):
            delta[j] = np.float64(number(row[j])) - np.float64(number(under[j]))


@njit(inline="always")
def _add_products(deltas, length, lanes):  # type: ignore[no-untyped-def]
    """Add the products of all pairs, (0, 0), (0, 1), ..., (1, 1), ..., each to its lanes."""
    whole, deep = length - length % LANES, length - length % _DEEP
    pair = 0
    for i in range(deltas.shape[0]):
        for k in range(i, deltas.shape[0]):
            a, b, sums = deltas[i], deltas[k], lanes[pair]
            # Four by four, so that a lane is fetched and stored once for all four; the order of additions is the same.
            for start in range(0, deep, _DEEP):
                for lane in range(LANES):
                    total = sums[lane]
                    for j in range(start + lane, start + lane + _DEEP, LANES):
                        total += a[j] * b[j]
                    sums[lane] = total
            for start in range(deep, whole, LANES):
                for lane in range(LANES):
                    sums[lane] += a[start + lane] * b[start + lane]
            for j in range(whole, length):
                sums[j - whole] += a[j] * b[j]
            pair += 1


@kernel([types.void(rows, base, LANE_SUMS) for rows, base, _ in STORED])
def add_grams(rows, base, lanes):  # type: ignore[no-untyped-def]
    """Add the products of all pairs of deltas to `lanes` (pairs, LANES); blocks begin at a multiple of LANES."""
    deltas = np.empty((rows.shape[0], _CHUNK), np.float64)
    for start in range(0, base.size, _CHUNK):
        stop = min(start + _CHUNK, base.size)
        _widen(rows, base, start, stop, deltas)
        _add_products(deltas, stop - start, lanes)


@kernel([types.void(rows, base, types.int64, LANE_SUMS) for rows, base, _ in STORED])
def row_grams(rows, base, columns, grams):  # type: ignore[no-untyped-def]
    """grams[r] = the dot products of all pairs within row r of a block of rows of length `columns`."""
    deltas = np.empty((rows.shape[0], _CHUNK), np.float64)
    lanes = np.empty((grams.shape[1], LANES), np.float64)
    for r in range(grams.shape[0]):
        lanes[:] = 0.0
        for start in range(r * columns, (r + 1) * columns, _CHUNK):
            stop = min(start + _CHUNK, (r + 1) * columns)
            _widen(rows, base, start, stop, deltas)
            _add_products(deltas, stop - start, lanes)
        for pair in range(grams.shape[1]):
            total = 0.0
            for lane in range(LANES):
                total += lanes[pair, lane]
            grams[r, pair] = total


@kernel([types.void(rows, base, types.int64, LANE_SUMS) for rows, base, _ in STORED])
def add_column_grams(rows, base, start, grams):  # type: ignore[no-untyped-def]
    """Add the products of all pairs of deltas at position p to grams[pair, p modulo the number of columns]."""
    columns = grams.shape[1]
    done = 0
    while done < base.size:
        first = (start + done) % columns
        length = min(columns - first, base.size - done)
        under = base[done : done + length]
        pair = 0
        for i in range(rows.shape[0]):
            for k in range(i, rows.shape[0]):
                a, b, sums = rows[i, done : done + length], rows[k, done : done + length], grams[pair, first:]
                for j in range(length):
                    below = np.float64(number(under[j]))
                    sums[j] += (np.float64(number(a[j])) - below) * (np.float64(number(b[j])) - below)
                pair += 1
        done += length


@kernel(
    [types.void(rows, base, types.int64, READ_ROWS_F64, out) for rows, base, out in STORED],
)
def add_rows(rows, base, columns, weights, out):  # type: ignore[no-untyped-def]
    """out = base + sum over models i of weights[r, i] * (rows[i] - base) within row r, in any order the same bits.

    Every term is first rounded to a multiple of one number, 2^-50 of the largest term or a little more where there
    are more than four models, so that the sum itself is exact (Demmel and Nguyen 2015).
    """
    models = rows.shape[0]
    terms = np.empty((models, _SHORT), np.float64)
    top, total = np.empty(_SHORT, np.float64), np.empty(_SHORT, np.float64)
    bits = top.view(np.uint64)
    room = 6.0
    while room * 2 < 3.0 * models:
        room *= 2
    for r in range(weights.shape[0]):
        for start in range(r * columns, (r + 1) * columns, _SHORT):
            stop = min(start + _SHORT, (r + 1) * columns)
            part, under = out[start:stop], base[start:stop]
            top[:] = 0.0
            for i in range(models):
                row, term, weight = rows[i, start:stop], terms[i], weights[r, i]
                for j in range(part.size):
                    x = weight * (np.float64(number(row[j])) - np.float64(number(under[j])))
                    term[j] = x
                    top[j] = max(top[j], abs(x))
            for j in range(part.size):
                bits[j] &= _EXPONENT
            for j in range(part.size):
                top[j] *= room
            total[:] = 0.0
            for i in range(models):
                term = terms[i]
                for j in range(part.size):
                    total[j] += (term[j] + top[j]) - top[j]
            for j in range(part.size):
                part[j] = np.float64(number(under[j])) + total[j]


@kernel(
    [types.void(rows, base, types.int64, READ_ROWS_F64, out) for rows, base, out in STORED],
)
def add_columns(rows, base, start, weights, out):  # type: ignore[no-untyped-def]
    """out = base + sum over models i of weights[i, c] * (rows[i] - base) in column c, models in order."""
    columns = weights.shape[1]
    total = np.empty(_CHUNK, np.float64)
    done = 0
    while done < out.size:
        first = (start + done) % columns
        length = min(columns - first, out.size - done, _CHUNK)
        part, under = out[done : done + length], base[done : done + length]
        total[:length] = 0.0
        for i in range(rows.shape[0]):
            row, weight = rows[i, done : done + length], weights[i, first : first + length]
            for j in range(length):
                total[j] += weight[j] * (np.float64(number(row[j])) - np.float64(number(under[j])))
        for j in range(length):
            part[j] = np.float64(number(under[j])) + total[j]
        done += length
