"""The divergence of softmaxes against exact arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tunemerge.merge.kernels.divergence import importances, row_divergences, take_important

EPS = 1e-8


def exact(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.longdouble]:
    def softmax(z: NDArray[np.float64]) -> NDArray[np.longdouble]:
        e = np.exp(z.astype(np.longdouble) - z.max())
        return e / e.sum() + EPS

    p, q = softmax(x), softmax(y)
    return (p * np.log(p / q)).sum()


@pytest.mark.parametrize("columns", [1, 2, 63, 64, 200])
@pytest.mark.parametrize(("scale", "move"), [(0.02, 1e-3), (0.02, 1e-6), (1.0, 0.5), (20.0, 5.0), (300.0, 300.0)])
def test_rows_near_and_far(columns: int, scale: float, move: float) -> None:
    rng = np.random.default_rng(columns)
    base = rng.normal(0, scale, (4, columns)).astype(np.float32)
    model = (base + rng.normal(0, move, base.shape)).astype(np.float32)
    for wide in (np.float32, np.float64):
        found = np.empty(4, np.float32)
        row_divergences(model.reshape(1, -1).astype(wide), base.ravel().astype(wide), columns, EPS, found)
        truth = [max(float(exact(x.astype(float), y.astype(float))), 0.0) for x, y in zip(model, base, strict=True)]
        np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-18)


def test_equal_rows_have_no_divergence_and_shifted_ones_hardly_any() -> None:
    row = np.random.default_rng(0).normal(size=100)
    found = np.empty(1, np.float32)
    row_divergences(row[None], row, 100, EPS, found)
    assert found[0] == 0
    row_divergences(row[None] + 0.25, row, 100, EPS, found)
    assert 0 <= found[0] < 1e-30


def test_importance_by_row_and_the_choice() -> None:
    model, base = np.array([[1, 2, 3, 5.0]], np.float32), np.array([1, 1, 1, 1], np.float32)
    found, out = np.empty(4, np.float32), np.empty(4, np.float32)
    importances(model, base, 2, np.array([3, 0.5], np.float32), found)
    assert found.tolist() == [0, 3, 1, 2]
    take_important(model, base, found, np.float32(2), out)
    assert out.tolist() == [1, 2, 1, 5]
