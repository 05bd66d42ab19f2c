"""What the geometric methods promise beyond the contract that all methods keep (test_methods.py)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import from_float32, to_float32
from tunemerge.checkpoint.source import ArraySource
from tunemerge.findings import FindingsError
from tunemerge.merge.blocks import stream_tensor
from tunemerge.merge.memory import merge_state
from tunemerge.merge.method import METHODS, Tensor
from tunemerge.testing.methods import by_kernel, sample

MEANS = ("nuslerp", "multislerp", "karcher", "model_stock")
GEOMETRIC = (*MEANS, "nearswap", "arcee_fusion", "passthrough")
VALUES = st.sampled_from([0.0, 1e-20, -1e-6, 1e-3, -0.02, 0.05, 1.0, -7.0, 300.0])


def run(name: str, models: list[Any], base: Any = None, dtype: str = "F64", **given: Any) -> NDArray[Any]:
    arrays = [np.asarray(m, np.float64 if dtype == "F64" else np.float32) for m in models]
    below = None if base is None else np.asarray(base, arrays[0].dtype)
    return by_kernel(METHODS[name], arrays, below, dtype, given)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(MEANS), st.sampled_from(["F32", "BF16", "F16"]), st.integers(0, 12))
def test_copies_of_one_model_give_that_model(data: Any, name: str, dtype: str, length: int) -> None:
    draw = st.lists(VALUES, min_size=length, max_size=length)
    model, base = (from_float32(np.array(data.draw(draw), np.float32), dtype) for _ in range(2))
    copies = 2 if name == "nuslerp" else data.draw(st.integers(2, 4))
    for below in [base, None] if name != "model_stock" else [base]:
        found = to_float32(by_kernel(METHODS[name], [model] * copies, below, dtype, {}), dtype)
        # Beside a large base, float64's own rounding is what is left of a small weight.
        last_place = {"F32": 2.0**-23, "BF16": 2.0**-7, "F16": 2.0**-10}[dtype]
        np.testing.assert_allclose(found, to_float32(model, dtype), rtol=last_place, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(GEOMETRIC), st.sampled_from([(), (0,), (1,), (5,), (3, 7), (2, 3, 4)]), st.integers(0, 99))
def test_models_of_different_dtypes_are_merged_as_if_widened(name: str, shape: tuple[int, ...], seed: int) -> None:
    method = METHODS[name]
    count = method.max_models or 3
    rng = np.random.default_rng(seed)
    dtypes = list(rng.permutation(["F32", "BF16", "F16", "F64"]))
    raw = [sample(shape, dtype, seed + i) for i, dtype in enumerate(dtypes)]
    wide = [np.asarray(to_float32(x, d), np.float64).reshape(shape) for x, d in zip(raw, dtypes, strict=True)]
    raw = [w if d == "F64" else r for r, w, d in zip(raw, wide, dtypes, strict=True)]
    below = wide[-1] if method.takes_base else None
    expected = by_kernel(method, wide[:count], below, "F64", {})

    sources = [ArraySource(r.reshape(-1), d, "model") for r, d in zip(raw, dtypes, strict=True)]
    found = np.zeros(math.prod(shape))
    stream = method.stream(Tensor("x", shape, count, method.resolve({}, count)))

    def sink(start: int, part: NDArray[Any]) -> None:
        found[start : start + part.size] = part

    stream_tensor(stream, sources[:count], sources[-1] if method.takes_base else None, shape, "F64", sink)
    if "F64" in [*dtypes[:count], *(dtypes[-1:] if method.takes_base else [])]:
        assert found.tobytes() == expected.tobytes()
    else:
        np.testing.assert_allclose(found, expected.ravel(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_tensor_that_is_not_finite_or_of_another_shape_is_refused_by_name(name: str) -> None:
    method = METHODS[name]
    count = method.max_models or 3
    states = [{"good": np.ones(4, np.float32), "bad": np.arange(4, dtype=np.float32)} for _ in range(count + 1)]
    states[0]["bad"] = np.array([1, 2, np.inf, 0], np.float32)
    base = states.pop() if method.takes_base else None
    with pytest.raises(FindingsError, match="bad: Inf at element 2"):
        merge_state(name, states[:count], base)
    if count > 1 or base is not None:
        states[0]["bad"] = np.ones(5, np.float32)
        with pytest.raises(FindingsError, match="bad"):
            merge_state(name, states[:count], base)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_empty_tensors_of_any_shape_stay_empty(name: str, shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, np.float32)
    method = METHODS[name]
    turned = {p.name: not p.default for p in method.parameters if p.kind == "flag"}
    for values in ({}, turned):
        assert by_kernel(method, [empty] * (method.max_models or 3), empty, "F32", values).shape == shape


# nuslerp


def test_nuslerp_goes_along_the_arc_by_weight() -> None:
    a, b = [2.0, 0.0], [0.0, 2.0]
    angle = math.pi / 2 * 0.75
    found = run("nuslerp", [a, b], weight=[1.0, 3.0])
    np.testing.assert_allclose(found, [2 * math.cos(angle), 2 * math.sin(angle)], atol=1e-15)
    moved = run("nuslerp", [[3.0, 1.0], [1.0, 3.0]], base=[1.0, 1.0], weight=[1.0, 3.0])
    np.testing.assert_allclose(moved, found + 1, atol=1e-15)
    np.testing.assert_allclose(run("nuslerp", [a, b], weight=[1.0, -1.0]), [math.sqrt(2)] * 2, atol=1e-15)


def test_nuslerp_of_parallel_opposite_and_zero_vectors() -> None:
    np.testing.assert_allclose(run("nuslerp", [[1.0, 2.0], [3.0, 6.0]], weight=[3.0, 1.0]), [1.5, 3.0], rtol=1e-15)
    np.testing.assert_allclose(run("nuslerp", [[1.0, 2.0], [-1.0, -2.0]], weight=[1.0, 3.0]), [-0.5, -1.0], rtol=1e-15)
    np.testing.assert_allclose(run("nuslerp", [[0.0, 0.0], [1.0, 2.0]]), np.array([1.0, 2.0]) * math.sqrt(0.5))
    assert run("nuslerp", [[0.0, 0.0], [0.0, 0.0]]).tolist() == [0, 0]
    assert run("nuslerp", [[0.3], [-0.1]]).tolist() == pytest.approx([0.1])


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 4), (6, 1), (1, 6), (6, 500)])
@pytest.mark.parametrize("row_wise", [False, True])
def test_nuslerp_of_rows_and_columns_is_nuslerp_of_each(shape: tuple[int, ...], row_wise: bool) -> None:
    rng = np.random.default_rng(0)
    a, b, base = (rng.normal(size=shape) for _ in range(3))
    values = {"weight": [0.2, 0.6], "nuslerp_flatten": False, "nuslerp_row_wise": row_wise}
    found = by_kernel(METHODS["nuslerp"], [a, b], base, "F64", values, block=64)
    axis = 0 if row_wise else -1
    lines = [np.moveaxis(x, axis, -1).reshape(-1, shape[axis]) for x in (a, b, base, found)]
    for one, other, below, got in zip(*lines, strict=True):
        np.testing.assert_allclose(got, run("nuslerp", [one, other], below, weight=[0.2, 0.6]), atol=1e-13)


# multislerp


def test_multislerp_of_right_angles_is_half_way_at_the_mean_length() -> None:
    np.testing.assert_allclose(run("multislerp", [[2.0, 0.0], [0.0, 4.0]]), [3 / math.sqrt(2)] * 2, rtol=1e-7)
    moved = run("multislerp", [[3.0, 1.0], [1.0, 5.0]], base=[1.0, 1.0])
    np.testing.assert_allclose(moved, [1 + 3 / math.sqrt(2)] * 2, rtol=1e-7)
    np.testing.assert_allclose(run("multislerp", [[5.0, -1.0]], weight=7.0, normalize_weights=False), [5, -1])


def test_multislerp_averages_what_cancels_or_is_zero() -> None:
    assert run("multislerp", [[1.0, 2.0], [-3.0, -6.0]]).tolist() == [-1.0, -2.0]
    hexagon = [[math.cos(x), math.sin(x)] for x in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    assert np.abs(run("multislerp", hexagon)).max() < 1e-15
    assert run("multislerp", [[0.0, 0.0]] * 3).tolist() == [0, 0]
    np.testing.assert_allclose(run("multislerp", [[0.0, 0.0], [0.0, 2.0], [0.0, 4.0]]), [0, 2.0])


def test_multislerp_refuses_weights_that_add_up_to_zero() -> None:
    with pytest.raises(FindingsError, match="normalize_weights: false"):
        METHODS["multislerp"].resolve({"weight": [1.0, -1.0]}, 2)
    METHODS["multislerp"].resolve({"weight": [1.0, -1.0], "normalize_weights": False}, 2)


# karcher


def test_karcher_mean_of_two_is_the_middle_of_the_arc_at_the_mean_length() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    b *= 3
    arc = run("nuslerp", [a / np.linalg.norm(a), b / np.linalg.norm(b)])
    expected = arc * (np.linalg.norm(a) + np.linalg.norm(b)) / 2
    np.testing.assert_allclose(run("karcher", [a, b]), expected, rtol=1e-9)


def test_karcher_mean_is_where_the_pulls_cancel() -> None:
    rng = np.random.default_rng(1)
    models, weights = list(rng.normal(size=(4, 30)) + 0.3), np.array([0.1, 0.2, 0.3, 0.4])
    mean = run("karcher", models, weight=list(weights), max_iter=200, tol=1e-12)
    mean /= np.linalg.norm(mean)
    pull = np.zeros(30)
    for w, x in zip(weights, models, strict=True):
        unit = x / np.linalg.norm(x)
        cosine = unit @ mean
        pull += w * math.acos(cosine) / math.sqrt(1 - cosine**2) * (unit - cosine * mean)
    assert np.linalg.norm(pull) < 1e-11


def test_karcher_of_opposite_short_and_zero_vectors() -> None:
    assert run("karcher", [[1.0, 2.0], [-2.0, -4.0]]).tolist() == pytest.approx([-1.5, -3.0])
    assert run("karcher", [[-0.2], [0.3], [0.1]]).tolist() == pytest.approx([0.2])
    np.testing.assert_allclose(run("karcher", [[1.0, 2.0], [0.0, 0.0]]), [0.5, 1.0])
    np.testing.assert_allclose(run("karcher", [[1e-7, 0.0], [3e-7, 4e-7]]), [2e-7, 2e-7])
    assert run("karcher", [[0.0]] * 3).tolist() == [0.0]
    np.testing.assert_allclose(run("karcher", [[1.0, 0.0], [0.0, 1.0]], weight=[1.0, 0.0]), [1.0, 0.0])
    with pytest.raises(FindingsError, match="all weights are zero"):
        METHODS["karcher"].resolve({"weight": 0.0}, 2)


# model_stock


def test_model_stock_by_hand_for_the_tensor_and_for_each_row() -> None:
    base = np.zeros((2, 2))
    one, other = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    cosine = 1 / math.sqrt(2 * 3)
    t = 2 * cosine / (1 + cosine)
    np.testing.assert_allclose(run("model_stock", [one, other], base), t * (one + other) / 2, rtol=1e-14)
    t = 2 * math.sqrt(0.5) / (1 + math.sqrt(0.5))
    found = run("model_stock", [one, other], base, filter_wise=True)
    np.testing.assert_allclose(found, [[t, t / 2], [0, 0]], atol=1e-15)


def test_model_stock_keeps_the_base_where_two_experts_went_opposite_ways() -> None:
    base = sample((20, 30), "F32", 0)
    move = np.round(sample((20, 30), "F32", 1) * 64) / 4096
    base = np.round(base * 4096) / 4096
    for rows in (False, True):
        found = run("model_stock", [base + move, base - move], base, "F32", filter_wise=rows)
        assert found.tobytes() == base.tobytes()


def test_model_stock_doesnt_depend_on_the_scale_of_the_updates() -> None:
    base = np.zeros((4, 6))
    experts = list(np.random.default_rng(0).normal(size=(3, 4, 6)) + 0.5)
    for rows in (False, True):
        large = run("model_stock", experts, base, filter_wise=rows)
        small = run("model_stock", [x * 1e-9 for x in experts], base, filter_wise=rows)
        np.testing.assert_allclose(small * 1e9, large, rtol=1e-12)


def test_model_stock_counts_an_unmoved_expert_as_a_right_angle() -> None:
    moved = np.array([1.0, 2.0, 3.0])
    cosine = 1 / 3
    t = 3 * cosine / (1 + 2 * cosine)
    found = run("model_stock", [moved, moved, np.zeros(3)], np.zeros(3))
    np.testing.assert_allclose(found, t * 2 / 3 * moved, rtol=1e-14)
    assert METHODS["model_stock"].refuses(1, has_base=True) is not None
