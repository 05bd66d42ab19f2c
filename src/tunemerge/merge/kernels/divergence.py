"""How far apart the softmaxes of two rows are, and the choice by importance that Arcee Fusion makes of it."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from tunemerge.merge.kernels.kernel import kernel
from tunemerge.merge.kernels.number import number
from tunemerge.merge.kernels.signatures import F32, LANES, READ_F32, STORED

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0
"""1.5 * 2^52: adding it rounds to a whole number, which is then in the lowest bits."""
_LOWEST = -700.0
_NEAR = 0.17


@njit(inline="always")
def _exponentials(row, top, out, out_bits, scratch, scratch_bits):  # type: ignore[no-untyped-def]
    """out = e^(row - top), to the last two bits; the two `bits` are int64 views. Vectorises, unlike a library's."""
    for j in range(row.size):
        u = max(np.float64(number(row[j])) - top, _LOWEST)
        shifted = u * _LOG2E + _ROUND
        whole = shifted - _ROUND
        r = (u - whole * _LN2_HIGH) - whole * _LN2_LOW
        # The exponential series to r^13, in halves of halves: the steps of Horner's scheme would wait for each other.
        r2 = r * r
        r4 = r2 * r2
        low = (1.0 + r) + (0.5 + r * (1.0 / 6.0)) * r2
        middle = (1.0 / 24.0 + r * (1.0 / 120.0)) + (1.0 / 720.0 + r * (1.0 / 5040.0)) * r2
        high = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) * r2
        top_two = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
        out[j] = (low + middle * r4) + (high + top_two * r4) * (r4 * r4)
        scratch[j] = shifted
    for j in range(row.size):
        out_bits[j] += scratch_bits[j] << 52


@njit(inline="always")
def _total(values, lanes):  # type: ignore[no-untyped-def]
    """The sum in LANES lanes by position."""
    whole = values.size - values.size % LANES
    lanes[:] = 0.0
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += values[start + lane]
    for j in range(whole, values.size):
        lanes[j - whole] += values[j]
    total = 0.0
    for lane in range(LANES):
        total += lanes[lane]
    return total


@njit(inline="always")
def _largest(row, lanes):  # type: ignore[no-untyped-def]
    whole = row.size - row.size % LANES
    lanes[:] = number(row[0])
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] = max(lanes[lane], np.float64(number(row[start + lane])))
    for j in range(whole, row.size):
        lanes[0] = max(lanes[0], np.float64(number(row[j])))
    top = lanes[0]
    for lane in range(1, LANES):
        top = max(top, lanes[lane])
    return top


@kernel(
    [types.void(rows, base, types.int64, types.float64, F32) for rows, base, _ in STORED],
    error_model="numpy",  # Python's looks for zero divisors, and then nothing is vectorised
)
def row_divergences(rows, base, columns, eps, out):  # type: ignore[no-untyped-def]
    """out[r] = sum of p log(p / q) over row r, with p, q = softmax(rows[0]) + eps, softmax(base) + eps.

    Summed as p log(p / q) - p + q, which is the same, as p and q have equal sums, and is never negative; near p = q
    as a series in z = (p - q) / (p + q), so that nothing cancels however close the rows are.
    """
    p, q, scratch = np.empty(columns, np.float64), np.empty(columns, np.float64), np.empty(columns, np.float64)
    p_bits, q_bits, scratch_bits = p.view(np.int64), q.view(np.int64), scratch.view(np.int64)
    lanes = np.empty(LANES, np.float64)
    for r in range(out.size):
        x, y = rows[0, r * columns : (r + 1) * columns], base[r * columns : (r + 1) * columns]
        _exponentials(x, _largest(x, lanes), p, p_bits, scratch, scratch_bits)
        _exponentials(y, _largest(y, lanes), q, q_bits, scratch, scratch_bits)
        share_x, share_y = 1.0 / _total(p, lanes), 1.0 / _total(q, lanes)
        far = 0
        for j in range(columns):
            a, b = p[j] * share_x + eps, q[j] * share_y + eps
            z = (a - b) / (a + b)
            w = z * z
            w2 = w * w
            w4 = w2 * w2
            low = (1.0 / 3.0 + w * (1.0 / 5.0)) + (1.0 / 7.0 + w * (1.0 / 9.0)) * w2
            high = (1.0 / 11.0 + w * (1.0 / 13.0)) + (1.0 / 15.0 + w * (1.0 / 17.0)) * w2
            s = low + (high + (1.0 / 19.0 + w * (1.0 / 21.0)) * w4) * w4
            scratch[j] = (a + b) * w + 2.0 * a * z * w * s
            far += abs(z) > _NEAR
        if far:
            for j in range(columns):
                a, b = p[j] * share_x + eps, q[j] * share_y + eps
                scratch[j] = max(a * np.log(a / b) - a + b, 0.0)
        out[r] = _total(scratch, lanes)


@kernel(
    [types.void(rows, base, types.int64, READ_F32, F32) for rows, base, _ in STORED],
)
def importances(rows, base, columns, divergence, out):  # type: ignore[no-untyped-def]
    """out = |rows[0] - base| * divergence of its row, each rounded to float32."""
    for r in range(divergence.size):
        first, stop, factor = r * columns, (r + 1) * columns, divergence[r]
        row, under, part = rows[0, first:stop], base[first:stop], out[first:stop]
        for j in range(columns):
            part[j] = abs(np.float32(number(row[j]) - number(under[j]))) * factor


@kernel(
    [types.void(rows, base, READ_F32, types.float32, out) for rows, base, out in STORED],
)
def take_important(rows, base, importance, threshold, out):  # type: ignore[no-untyped-def]
    """out = rows[0] where the importance reaches the threshold, elsewhere the base."""
    row = rows[0]
    for j in range(out.size):
        changed, unchanged = number(row[j]), number(base[j])
        out[j] = changed if importance[j] >= threshold else unchanged
