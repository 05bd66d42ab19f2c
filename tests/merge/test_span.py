"""Gram matrices and sums that don't depend on the order of the models, nor on blocks."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunemerge.merge.kernels import near, span
from tunemerge.merge.kernels.signatures import LANES
from tunemerge.merge.span import cosines

FLOATS = st.floats(-1e6, 1e6, allow_nan=False, width=32) | st.sampled_from([0.0, -0.0, 1e-30, 1.0, 2.0**-24, 2.0**40])


def summed(rows: NDArray[Any], base: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[Any]:
    out = np.empty(base.size, rows.dtype)
    span.add_rows(rows, base, base.size, weights[None], out)
    return out


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 9))
def test_sums_have_the_same_bits_in_any_order_and_are_near_the_truth(data: Any, models: int, length: int) -> None:
    rows = np.array([data.draw(st.lists(FLOATS, min_size=length, max_size=length)) for _ in range(models)], np.float64)
    base = np.array(data.draw(st.lists(FLOATS, min_size=length, max_size=length)), np.float64)
    weights = np.array(data.draw(st.lists(FLOATS, min_size=models, max_size=models)), np.float64)
    one = summed(rows, base, weights)
    for order in list(permutations(range(models)))[:24]:
        moved = np.ascontiguousarray(rows[list(order)])
        assert summed(moved, base, weights[list(order)]).tobytes() == one.tobytes()
    terms = weights[:, None] * (rows - base)
    for j in range(length):
        allowed = models * 2.0**-48 * abs(terms[:, j]).max() + 2.0**-52 * abs(one[j])
        assert abs(one[j] - math.fsum([base[j], *terms[:, j]])) <= allowed


def test_many_models_and_terms_of_equal_size_and_both_signs() -> None:
    rng = np.random.default_rng(0)
    for models in (4, 5, 8, 9, 33):
        rows = rng.choice([1.0, -1.0], (models, 500)) * rng.uniform(1, 2, (models, 500))
        weights, base = rng.normal(size=models), np.zeros(500)
        one = summed(rows, base, weights)
        for _ in range(5):
            order = rng.permutation(models)
            assert summed(np.ascontiguousarray(rows[order]), base, weights[order]).tobytes() == one.tobytes()
        np.testing.assert_allclose(one, weights @ rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wide", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 3, 63, 64, 65, 1500])
def test_grams_of_whole_tensors_rows_and_columns(wide: type, columns: int) -> None:
    rng = np.random.default_rng(columns)
    lines, models = 5, 3
    rows = rng.normal(size=(models, lines * columns)).astype(wide)
    base = rng.normal(size=lines * columns).astype(wide)
    deltas = (rows.astype(np.float64) - base).reshape(models, lines, columns)
    upper = np.triu_indices(models)

    lanes = np.zeros((6, LANES))
    span.add_grams(rows, base, lanes)
    np.testing.assert_allclose(lanes.sum(axis=1), np.einsum("arc,brc->ab", deltas, deltas)[upper], rtol=1e-12)

    by_row = np.zeros((lines, 6))
    span.row_grams(rows, base, columns, by_row)
    np.testing.assert_allclose(by_row, np.einsum("arc,brc->rab", deltas, deltas)[:, *upper], rtol=1e-11, atol=1e-12)

    by_column = np.zeros((6, columns))
    for start in range(0, base.size, 97):
        part = slice(start, start + 97)
        span.add_column_grams(np.ascontiguousarray(rows[:, part]), base[part], start, by_column)
    expected = np.einsum("arc,brc->abc", deltas, deltas)[*upper]
    np.testing.assert_allclose(by_column, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("columns", [1, 4, 1023, 3000])
def test_every_row_and_every_column_takes_its_own_weights(columns: int) -> None:
    rng = np.random.default_rng(0)
    lines, models = 3, 2
    rows = rng.normal(size=(models, lines * columns))
    base, out = rng.normal(size=lines * columns), np.empty(lines * columns)
    deltas = (rows - base).reshape(models, lines, columns)
    by_row, by_column = rng.normal(size=(lines, models)), rng.normal(size=(models, columns))
    span.add_rows(rows, base, columns, by_row, out)
    np.testing.assert_allclose(out - base, np.einsum("ri,irc->rc", by_row, deltas).ravel(), atol=1e-13)
    for start in range(0, base.size, 64):
        part = slice(start, start + 64)
        piece = np.empty(base[part].size)
        span.add_columns(np.ascontiguousarray(rows[:, part]), base[part], start, by_column, piece)
        out[part] = piece
    np.testing.assert_allclose(out - base, np.einsum("ic,irc->rc", by_column, deltas).ravel(), atol=1e-13)


def test_a_vector_without_length_is_at_a_right_angle() -> None:
    found = cosines(np.array([[[4.0, 0.0, -6.0], [0.0, 0.0, 0.0], [-6.0, 0.0, 9.0]]]))
    assert found.tolist() == [[[1, 0, -1], [0, 0, 0], [-1, 0, 1]]]


def test_a_factor_of_one_changes_no_bit() -> None:
    rows = np.array([[0.0, -0.0, 1e-45, -3.5, 3e38]], np.float32)
    out = np.empty(5, np.float32)
    near.scaled(rows, 1.0, out)
    assert out.tobytes() == rows.tobytes()
