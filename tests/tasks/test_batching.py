from __future__ import annotations

import numpy as np
import pytest

from tunemerge.tasks.batching import Encoded, by_length


def _encoded(left: bool = False, limit: int = 64) -> Encoded:
    ids = [[5, 6, 7], [8] * 9, [9]]
    return Encoded(
        {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids]},
        {"input_ids": 3, "attention_mask": 0},
        left,
        limit,
    )


def test_padded_to_a_multiple_of_four() -> None:
    batch = _encoded().batch([2, 0])
    assert batch["input_ids"].tolist() == [[9, 3, 3, 3], [5, 6, 7, 3]]
    assert batch["attention_mask"].sum() == 4
    assert _encoded().batch([1])["input_ids"].shape == (1, 12)


def test_left_padding_and_limit() -> None:
    assert _encoded(left=True).batch([0])["input_ids"].tolist() == [[3, 5, 6, 7]]
    assert _encoded(limit=10).batch([1, 0])["input_ids"].shape == (2, 10)


@pytest.mark.parametrize("left", [False, True])
def test_exact_length_cuts_and_pads(left: bool) -> None:
    encoded = _encoded(left)
    encoded.columns["input_ids"][1][-1] = 4
    batch = encoded.batch([0, 1], length=4)
    assert batch["input_ids"].tolist() == [[3, 5, 6, 7] if left else [5, 6, 7, 3], [8, 8, 8, 4]]


def test_batches_by_length_are_longest_first_and_complete() -> None:
    lengths = np.array([3, 9, 1, 9, 4])
    batches = [b.tolist() for b in by_length(lengths, 2)]
    assert batches == [[1, 3], [4, 0], [2]]
