"""What the kernels promise one by one; together with the methods they are tested in test_methods.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemerge.checkpoint.dtypes import from_float32
from tunemerge.merge.kernels import convert, select
from tunemerge.merge.method import Tensor
from tunemerge.merge.random import keep_mask, keep_threshold, stream_key
from tunemerge.merge.selection import Largest, RandomShare


def test_bfloat16_from_float64_rounds_once() -> None:
    """1 + 2^-8 is half way between two bfloat16 numbers; the least bit above it must round up, not to even."""
    halfway = 1 + 2.0**-8
    values = np.array([halfway, halfway + 2.0**-40, halfway - 2.0**-40, -halfway - 2.0**-40, 0.0, -0.0, 1e-300])
    out, scratch = np.empty(values.size, np.uint16), np.empty(values.size, np.float32)
    convert.narrow_bf16(values, scratch, scratch.view(np.uint32), out)
    found = (out.astype(np.uint32) << 16).view(np.float32)
    assert found.tolist() == [1.0, 1 + 2.0**-7, 1.0, -1 - 2.0**-7, 0.0, 0.0, 0.0]
    assert np.signbit(found[5])


def test_bfloat16_agrees_with_the_readable_conversion() -> None:
    values = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    out, scratch = np.empty(values.size, np.uint16), np.empty(values.size, np.float32)
    convert.narrow_bf16(values.astype(np.float64), scratch, scratch.view(np.uint32), out)
    assert np.array_equal(out, from_float32(values, "BF16"))


def test_kernels_take_read_only_arrays() -> None:
    values = np.ones(10, np.float32)
    values.flags.writeable = False
    assert convert.count_nonfinite(values) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1e-40, 0.5, -0.5, 1.0, -1.0, 3.0, 2.0**100]), min_size=1, max_size=70),
    st.floats(0, 1),
    st.sampled_from([8, 16, 64]),
)
def test_the_largest_are_those_of_a_stable_sort(values: list[float], density: float, block: int) -> None:
    delta = np.array(values, np.float32)
    k = int(density * delta.size)
    expected = np.zeros(delta.size, bool)
    expected[np.argsort(-np.abs(delta), kind="stable")[:k]] = True
    selection = Largest(Tensor("x", delta.size, 1, {"density": [density]}))
    pieces = [slice(i, i + block) for i in range(0, delta.size, block)]
    for index in range(selection.passes):
        for piece in pieces:
            selection.scan(index, 0, delta[piece])
        selection.finish(index)
    for _ in range(2):
        found = np.empty(delta.size, bool)
        for piece in pieces:
            selection.mask(0, delta[piece], piece.start, found[piece])
        assert np.array_equal(found, expected)
        selection.restart()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_random_masks_keep_their_share_and_match_the_readable_form(share: float) -> None:
    size = 200_001
    key = stream_key(7, "dare_ties", 1, "layer.weight")
    expected = keep_mask(key, size, share)
    assert abs(expected.mean() - share) <= 4 * np.sqrt(share * (1 - share) / size)
    found = np.empty(size, bool)
    for start in range(0, size, 4096):
        select.mask_random(key, start, keep_threshold(share), found[start : start + 4096])
    assert np.array_equal(found, expected)


def test_random_masks_are_independent_of_each_other_and_of_their_neighbours() -> None:
    size = 200_000
    base = keep_mask(stream_key(0, "m", 0, "t"), size, 0.5)
    for others in ((1, "m", 0, "t"), (0, "n", 0, "t"), (0, "m", 1, "t"), (0, "m", 0, "u")):
        assert abs(float(np.mean(base == keep_mask(stream_key(*others), size, 0.5))) - 0.5) < 0.006
    for lag in (1, 2, 3, 64):
        assert abs(float(np.mean(base[lag:] == base[:-lag])) - 0.5) < 0.006


def test_random_share_of_the_stream_is_keyed_by_model() -> None:
    selection = RandomShare(Tensor("x", 1000, 2, {"density": [0.5, 0.5]}, seed=3), "dare_ties")
    one, two = np.empty(1000, bool), np.empty(1000, bool)
    delta = np.zeros(1000, np.float32)
    selection.mask(0, delta, 0, one)
    selection.mask(1, delta, 0, two)
    assert 400 < int(np.sum(one == two)) < 600
