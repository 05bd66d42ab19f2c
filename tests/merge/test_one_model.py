"""What the methods promise that merge one model, with a base or alone: nearswap, arcee_fusion, passthrough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import to_float32
from tunemerge.findings import FindingsError
from tunemerge.merge.memory import merge_state
from tunemerge.merge.method import METHODS
from tunemerge.testing.methods import by_kernel, by_reference, sample, ulps

VALUES = st.sampled_from([0.0, 1e-20, -1e-6, 1e-3, -0.02, 0.05, 1.0, -7.0, 300.0])


def run(name: str, model: Any, base: Any, dtype: str = "F64", **given: Any) -> NDArray[Any]:
    wide = np.float64 if dtype == "F64" else np.float32
    return by_kernel(METHODS[name], [np.asarray(model, wide)], np.asarray(base, wide), dtype, given)


@pytest.mark.parametrize("name", ["nearswap", "arcee_fusion", "passthrough"])
def test_one_model_is_one_model(name: str) -> None:
    state = {"w": np.ones(3, np.float32)}
    with pytest.raises(FindingsError, match=f"{name} merges exactly one model, got 2"):
        merge_state(name, [state, state], state)


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=9), st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 1e4]), st.integers(0, 9))
def test_nearswap_moves_by_t_at_most_and_all_the_way_where_near(values: list[float], t: float, seed: int) -> None:
    base = np.array(values)
    model = np.roll(base, 1) + np.random.default_rng(seed).choice([0, 1e-4, -1.0], base.size)
    found = run("nearswap", model, base, t=t)
    near = np.abs(model - base) <= t
    np.testing.assert_allclose(found[near], model[near], rtol=1e-15, atol=1e-13)
    np.testing.assert_allclose((found - base)[~near], np.sign(model - base)[~near] * t, rtol=0, atol=1e-12)


def test_arcee_fusion_takes_what_reaches_the_bound_of_box_plots() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.02, (1, 1001)).astype(np.float32)
    model = (base + rng.standard_t(2, base.shape) * 1e-3).astype(np.float32)
    moved = np.sort(np.abs(model - base).ravel())
    bound = moved[500] + 1.5 * (moved[750] - moved[250])
    found = run("arcee_fusion", model, base, "F32")
    taken = np.abs(model - base) > bound
    assert 30 < taken.sum() < 150
    assert np.array_equal(found[taken], model[taken])
    assert np.array_equal(found[np.abs(model - base) < bound * 0.9999], base[np.abs(model - base) < bound * 0.9999])


def test_arcee_fusion_finds_the_quartiles_of_four() -> None:
    moved = np.array([1.2, 1.0, 1.9, 1.1])
    found = run("arcee_fusion", moved, np.zeros(4))
    assert found.tolist() == [0.0, 0.0, 1.9, 0.0], "the bound is 1.1 + 1.5 x (1.2 - 1.0)"


def test_arcee_fusion_takes_all_where_nothing_stands_out() -> None:
    assert run("arcee_fusion", [5.0], [2.0]).tolist() == [5.0]
    base = np.ones((4, 1))
    assert run("arcee_fusion", base + 1, base).tolist() == (base + 1).tolist()
    still = np.zeros(100)
    one = still.copy()
    one[7] = 0.5
    assert run("arcee_fusion", one, still).tolist() == one.tolist()


@pytest.mark.parametrize("shape", [(2,), (3,), (4,), (5,), (2, 2), (3, 70_000), (70_000, 3)])
def test_arcee_fusion_of_few_and_of_many_elements_agrees_with_its_reference(shape: tuple[int, ...]) -> None:
    base, move = sample(shape, "F32", 1), sample(shape, "F32", 2)
    model = base + 0.1 * move
    truth = by_reference(METHODS["arcee_fusion"], [model], base, "F32", {})
    found = by_kernel(METHODS["arcee_fusion"], [model], base, "F32", {}, block=1 << 12)
    assert np.array_equal(found, truth)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_passthrough_changes_no_bit_of_any_finite_pattern(dtype: str) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    finite = np.isfinite(to_float32(patterns if dtype == "BF16" else patterns.view(np.float16), dtype))
    raw = patterns[finite] if dtype == "BF16" else patterns[finite].view(np.float16)
    assert by_kernel(METHODS["passthrough"], [raw], None, dtype, {}).tobytes() == raw.tobytes()
    halved = by_kernel(METHODS["passthrough"], [raw], None, dtype, {"scale": 0.5})
    assert ulps(halved, to_float32(raw, dtype) * 0.5, dtype) <= 0.5
