from __future__ import annotations

import numpy as np
import pytest

from tunemerge.tune.order import training_order


def _lengths(n: int) -> np.ndarray:
    return np.random.default_rng(5).integers(3, 60, n)


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize(
    ("rows", "examples", "batch"), [(100, 100, 8), (37, 200, 8), (5, 64, 16), (4000, 3999, 8), (9, 4, 8)]
)
def test_every_epoch_sees_every_row_once(rows: int, examples: int, batch: int, grouping: bool) -> None:
    order = training_order(_lengths(rows), examples, batch, 3, grouping)
    assert len(order) == examples
    for start in range(0, examples, rows):
        epoch = order[start : start + rows]
        assert len(set(epoch.tolist())) == len(epoch)
    whole = examples // rows * rows
    assert (np.bincount(order[:whole], minlength=rows) == examples // rows).all()


def test_grouping_pads_less_and_changes_with_the_seed_only() -> None:
    lengths = _lengths(1000)

    def padding(order: np.ndarray) -> int:
        batches = lengths[order].reshape(-1, 20)
        return int((batches.max(axis=1, keepdims=True) - batches).sum())

    grouped, plain = training_order(lengths, 1000, 20, 1), training_order(lengths, 1000, 20, 1, grouping=False)
    assert padding(grouped) < 0.1 * padding(plain)
    assert (training_order(lengths, 1000, 20, 1) == grouped).all()
    assert (training_order(lengths, 1000, 20, 2) != grouped).any()


def test_batches_are_not_in_order_of_length() -> None:
    lengths = _lengths(1000)
    means = lengths[training_order(lengths, 1000, 20, 1)].reshape(-1, 20).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(50))[0, 1]) < 0.4


def test_odd_rows_at_the_end_of_an_epoch_are_not_chosen_by_length() -> None:
    lengths = np.arange(104)
    tails = [lengths[training_order(lengths, 104, 50, seed)[100:]].mean() for seed in range(200)]
    assert 45 < np.mean(tails) < 58
