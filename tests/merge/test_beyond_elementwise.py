"""What MagMax, WiSE-FT, consensus task arithmetic and PCB promise beyond the contract (test_methods.py)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import from_float32, to_float32
from tunemerge.findings import FindingsError
from tunemerge.merge.memory import merge_state
from tunemerge.merge.method import METHODS
from tunemerge.testing.methods import by_kernel, by_reference, sample

ELEMENTWISE = ("consensus_ta", "magmax", "pcb", "wise")
BEYOND = (*ELEMENTWISE, "iso_c", "iso_cts", "tsv_m", "wudi")
WHOLE: dict[str, dict[str, Any]] = {
    "consensus_ta": {"weight": 1 / 2},
    "magmax": {"lambda": 1.0},
    "pcb": {},
    "wise": {"alpha": 1.0},
}
"""Settings at which two copies of a model merge into it."""
VALUES = st.sampled_from([0.0, 1e-20, -1e-6, 1e-3, -0.02, 0.05, 1.0, -7.0, 300.0])
SHAPES = st.sampled_from([(), (0,), (1,), (5,), (0, 3), (1, 1), (1, 6), (6, 1), (4, 4), (2, 3, 4)])


def run(name: str, models: list[Any], base: Any, dtype: str = "F64", **given: Any) -> NDArray[Any]:
    arrays = [np.asarray(m, np.float64 if dtype == "F64" else np.float32) for m in models]
    return by_kernel(METHODS[name], arrays, np.asarray(base, arrays[0].dtype), dtype, given)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(ELEMENTWISE), st.sampled_from(["F32", "BF16", "F16"]), st.integers(0, 12))
def test_two_copies_of_a_model_give_that_model(data: Any, name: str, dtype: str, length: int) -> None:
    draw = st.lists(VALUES, min_size=length, max_size=length)
    model, base = (from_float32(np.array(data.draw(draw), np.float32), dtype) for _ in range(2))
    found = to_float32(by_kernel(METHODS[name], [model, model], base, dtype, WHOLE[name]), dtype)
    last_place = {"F32": 2.0**-23, "BF16": 2.0**-7, "F16": 2.0**-10}[dtype]
    # Beside a large base, float64's own rounding is what is left of a small weight.
    np.testing.assert_allclose(found, to_float32(model, dtype), rtol=last_place, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BEYOND), SHAPES, st.sampled_from(["F32", "BF16", "F16", "F64"]), st.integers(2, 4))
def test_models_that_have_not_moved_leave_the_base(name: str, shape: tuple[int, ...], dtype: str, count: int) -> None:
    base = sample(shape, dtype, 3)
    found = by_kernel(METHODS[name], [base.copy() for _ in range(count)], base, dtype, {})
    assert found.tobytes() == base.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BEYOND), SHAPES, st.integers(2, 5), st.integers(0, 99))
def test_small_and_empty_tensors_agree_with_the_reference(
    name: str, shape: tuple[int, ...], count: int, seed: int
) -> None:
    base = sample(shape, "F64", seed).astype(np.float64)
    models = [np.asarray(base + 0.05 * sample(shape, "F64", seed + i + 1)) for i in range(count)]
    given = {"iterations": 20} if name == "wudi" else {}
    found = by_kernel(METHODS[name], models, base, "F64", given)
    np.testing.assert_allclose(found, by_reference(METHODS[name], models, base, "F64", given), rtol=0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BEYOND), st.permutations(["F32", "BF16", "F16"]), st.integers(0, 99))
def test_models_of_different_dtypes_are_merged_as_if_widened(name: str, dtypes: list[str], seed: int) -> None:
    shape = (5, 7)
    raw = [sample(shape, dtype, seed + i) for i, dtype in enumerate(dtypes)]
    wide = [to_float32(x, dtype).reshape(shape) for x, dtype in zip(raw, dtypes, strict=True)]
    base = sample(shape, "F32", seed + 9)
    given = {"iterations": 5} if name == "wudi" else {}
    one, other = (merge_state(name, [{"w": m} for m in models], {"w": base}, given)["w"] for models in (raw, wide))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_refused_by_name(name: str, bad: float) -> None:
    states = [{"good": np.ones((2, 3), np.float32), "bad": np.ones((2, 3), np.float32)} for _ in range(3)]
    base = {key: value.copy() for key, value in states[0].items()}
    for state in (states[1], base):
        state["bad"][1, 1] = bad
        with pytest.raises(FindingsError, match=r"bad: (NaN|Inf) at element 4"):
            merge_state(name, states, base)
        state["bad"][1, 1] = 1.0


def test_magmax_takes_the_delta_of_largest_magnitude() -> None:
    base = [1.0, 1.0, 1.0, 1.0]
    models = [[2.0, 0.0, 1.5, 1.0], [-2.0, 3.0, 1.25, 1.0], [1.0, 1.0, 0.25, 1.0]]
    assert run("magmax", models, base, **{"lambda": 1.0}).tolist() == [-2.0, 3.0, 0.25, 1.0]
    assert run("magmax", models, base).tolist() == [-0.5, 2.0, 0.625, 1.0]


def test_magmax_of_opposite_deltas_takes_the_positive_one_in_any_order() -> None:
    for models in ([[2.0, -1.0], [0.0, 3.0]], [[0.0, 3.0], [2.0, -1.0]]):
        assert run("magmax", models, [1.0, 1.0], **{"lambda": 1.0}).tolist() == [2.0, 3.0]


def test_magmax_of_one_model_is_task_arithmetic() -> None:
    base, model = sample((40,), "F32", 0), sample((40,), "F32", 1)
    found = run("magmax", [model], base, "F32", **{"lambda": 0.7})
    assert found.tobytes() == run("task_arithmetic", [model], base, "F32", weight=0.7).tobytes()


def test_wise_is_a_point_on_the_line_from_the_base_to_the_mean() -> None:
    assert run("wise", [[3.0, 1.0]], [1.0, 1.0], alpha=0.25).tolist() == [1.5, 1.0]
    assert run("wise", [[3.0], [5.0]], [1.0], alpha=0.5).tolist() == [2.5]
    assert run("wise", [[3.0], [5.0]], [1.0], alpha=0.0).tolist() == [1.0]
    assert run("wise", [[3.0], [5.0]], [1.0], alpha=1.0).tolist() == [4.0]


# Deltas of three tasks; useful by tall = 0.5 to all, to the first, to the first and third, to the third.
TASKS = [[1.0, 3.0, 1.0, 0.0], [1.0, 0.1, -1.0, 0.0], [1.0, 0.1, 2.0, 5.0]]


@pytest.mark.parametrize(
    ("k", "kept"), [(1, [3.0, 3.2, 2.0, 5.0]), (2, [3.0, 0.0, 2.0, 0.0]), (3, [3.0, 0.0, 0.0, 0.0])]
)
def test_consensus_keeps_what_is_useful_to_k_tasks(k: int, kept: list[float]) -> None:
    zeros = [0.0] * 4
    np.testing.assert_allclose(run("consensus_ta", TASKS, zeros, k=k, tall=0.5, weight=1.0), kept, rtol=1e-15)
    moved = run("consensus_ta", (np.array(TASKS) + 7).tolist(), [7.0] * 4, k=k, tall=0.5, weight=0.5, **{"lambda": 2.0})
    np.testing.assert_allclose(moved, np.array(kept) + 7, rtol=1e-15)


def test_consensus_masks_do_not_depend_on_the_weights() -> None:
    found = run("consensus_ta", TASKS, [0.0] * 4, k=2, tall=0.5, weight=[1.0, 10.0, 100.0])
    np.testing.assert_allclose(found, [111.0, 0.0, 191.0, 0.0], rtol=1e-15)


def test_consensus_where_everything_is_useful_is_task_arithmetic() -> None:
    base = sample((60,), "F32", 0)
    models = [sample((60,), "F32", i + 1) for i in range(3)]
    found = run("consensus_ta", models, base, "F32", tall=0.0, k=3, weight=[0.2, 0.3, 0.4])
    assert found.tobytes() == run("task_arithmetic", models, base, "F32", weight=[0.2, 0.3, 0.4]).tobytes()


def test_consensus_of_more_tasks_than_there_are_is_refused() -> None:
    with pytest.raises(FindingsError, match="k is 3 and there are 2 models"):
        METHODS["consensus_ta"].resolve({"k": 3}, 2)


def test_pcb_by_hand() -> None:
    """Squares and products go to 0 and 1 here, so that the softmaxes are those of (0, 1) and (0, 2)."""
    p, q = math.e / (1 + math.e), 1 / (1 + math.e)
    large = math.e**2 / (1 + math.e**2)
    small = 1 - large
    first, second = [large, small], [2 * small * q, 2 * large * p]
    a, b = [2.0, 1.0], [-1.0, 3.0]
    expected = [(x * u + y * v) / (x + y) for x, y, u, v in zip(first, second, a, b, strict=True)]
    np.testing.assert_allclose(run("pcb", [a, b], [0.0, 0.0]), expected, rtol=1e-14)
    half = run("pcb", [a, b], [0.0, 0.0], density=0.5)
    np.testing.assert_allclose(half, [2.0, 3.0], rtol=1e-14)
    np.testing.assert_allclose(run("pcb", [[2.0, 0.0], [1.0, 0.0]], [0.0, 0.0]), [1.5, 0.0], rtol=1e-14)


def test_pcb_does_not_depend_on_the_scale_of_all_task_vectors() -> None:
    rng = np.random.default_rng(0)
    deltas, zeros = rng.normal(size=(3, 500)), np.zeros(500)
    one = run("pcb", list(deltas), zeros, density=0.3)
    other = run("pcb", list(deltas * 2.0**-20), zeros, density=0.3)
    np.testing.assert_allclose(other * 2.0**20, one, rtol=1e-12)
    assert 0.3 <= np.count_nonzero(one) / 500 <= 0.9


def test_pcb_keeps_what_tasks_agree_on() -> None:
    one, other = np.ones(10), np.array([1.0, -1.0] * 5)
    assert run("pcb", [one, other], np.zeros(10), density=0.5).tolist() == [1.0, 0.0] * 5
