"""What the kernels promise one by one; together with the methods they are tested in test_methods.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import from_float32
from tunemerge.merge.kernels import convert, half, select
from tunemerge.merge.method import Block, Tensor
from tunemerge.merge.random import keep_mask, keep_threshold, stream_key
from tunemerge.merge.selection import RandomShare, Ranked, largest_count


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    out = np.empty(values.size, np.uint16)
    if values.dtype == np.float64:
        odd = np.empty(values.size, np.float32)
        convert.narrow_to_odd(values, odd, odd.view(np.uint32))
        values = odd
    convert.narrow_bf16(values.view(np.uint32), out)
    return out


def test_bfloat16_from_float64_rounds_once() -> None:
    """1 + 2^-8 is half way between two bfloat16 numbers; the least bit above it must round up, not to even."""
    halfway = 1 + 2.0**-8
    values = np.array([halfway, halfway + 2.0**-40, halfway - 2.0**-40, -halfway - 2.0**-40, 0.0, -0.0, 1e-300])
    found = (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    assert found.tolist() == [1.0, 1 + 2.0**-7, 1.0, -1 - 2.0**-7, 0.0, 0.0, 0.0]
    assert np.signbit(found[5])


@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_bfloat16_agrees_with_the_readable_conversion(wide: type) -> None:
    values = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    assert np.array_equal(to_bfloat16(values.astype(wide)), from_float32(values, "BF16"))


def test_all_float16_patterns_widen_exactly_and_say_which_are_not_finite() -> None:
    raw = np.arange(1 << 16, dtype=np.uint16)[None]
    found = np.empty(raw.shape, np.float32)
    assert half.widen_f16(raw, found, found.view(np.uint32)) == 2 * 1024
    expected = raw.view(np.float16).astype(np.float32)
    finite = np.isfinite(expected)
    assert np.array_equal(found[finite].view(np.uint32), expected[finite].view(np.uint32))


def test_float16_rounds_to_even_over_its_whole_range() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 1, 200_000) * 10.0 ** rng.integers(-9, 6, 200_000)).astype(np.float32)
    exact = np.arange(1 << 15, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = exact[np.isfinite(exact)]
    halves = exact[:-1] + np.diff(exact) / 2
    values = np.concatenate([values, halves, -halves, np.array([65519.996, 65520.0, -65520.0], np.float32)])
    found, scratch = np.empty(values.size, np.uint16), np.empty(values.size, np.float32)
    bad = half.narrow_f16(values, values.view(np.uint32), scratch, scratch.view(np.uint32), found)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert np.array_equal(found, expected.view(np.uint16))
    assert bad == np.count_nonzero(~np.isfinite(expected))


def test_kernels_take_read_only_arrays() -> None:
    values = np.ones((2, 5), np.float32)
    values.flags.writeable = False
    assert convert.count_nonfinite(values) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1e-40, 0.5, -0.5, 1.0, -1.0, 3.0, 2.0**100]), min_size=1, max_size=70),
    st.floats(0, 1),
    st.sampled_from([1, 16, 64]),
)
def test_the_largest_are_those_of_a_stable_sort(values: list[float], density: float, block: int) -> None:
    delta = np.array(values, np.float32)
    k = largest_count(density, delta.size)
    expected = np.zeros(delta.size, bool)
    expected[np.argsort(-np.abs(delta), kind="stable")[:k]] = True
    selection = Ranked([(k,)], delta.size)
    base, out = np.zeros(delta.size, np.float32), np.empty(delta.size, np.float32)
    pieces = [slice(i, i + block) for i in range(0, delta.size, block)]
    blocks = [Block(delta[None, p], base[p], p.start, out[p]) for p in pieces]
    for index in range(selection.passes):
        for ready in blocks:
            selection.scan(index, ready)
        selection.finish(index)
    for _ in range(2):
        found = []
        for ready in blocks:
            keep = np.empty(ready.rows.shape, bool)
            selection.mask(ready, keep)
            found.append(keep[0])
        assert np.array_equal(np.concatenate(found), expected)
        selection.restart()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_random_masks_keep_their_share_and_match_the_readable_form(share: float) -> None:
    size = 200_001
    key = stream_key(7, "dare_ties", 1, "layer.weight")
    expected = keep_mask(key, size, share)
    assert abs(expected.mean() - share) <= 4 * np.sqrt(share * (1 - share) / size)
    for start in range(0, size, 4096):
        keep = np.empty((1, min(4096, size - start)), bool)
        select.mask_random(np.array([key]), start, np.array([keep_threshold(share)]), keep)
        assert np.array_equal(keep[0], expected[start : start + 4096])


def test_random_masks_are_independent_of_each_other_and_of_their_neighbours() -> None:
    size = 200_000
    base = keep_mask(stream_key(0, "m", 0, "t"), size, 0.5)
    for others in ((1, "m", 0, "t"), (0, "n", 0, "t"), (0, "m", 1, "t"), (0, "m", 0, "u")):
        assert abs(float(np.mean(base == keep_mask(stream_key(*others), size, 0.5))) - 0.5) < 0.006
    for lag in (1, 2, 3, 64):
        assert abs(float(np.mean(base[lag:] == base[:-lag])) - 0.5) < 0.006


def test_random_share_of_the_stream_is_keyed_by_model() -> None:
    selection = RandomShare(Tensor("x", 1000, 2, {"density": [0.5, 0.5]}, seed=3), "dare_ties")
    rows, base = np.zeros((2, 1000), np.float32), np.zeros(1000, np.float32)
    keep = np.empty((2, 1000), bool)
    selection.mask(Block(rows, base, 0, np.empty(1000, np.float32)), keep)
    assert 400 < int(np.sum(keep[0] == keep[1])) < 600
