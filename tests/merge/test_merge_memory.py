from __future__ import annotations

import sys

import numpy as np
import pytest

import tunemerge.merge
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.merge.memory import merge, merge_state


def test_numpy_dicts_and_their_dtypes() -> None:
    rng = np.random.default_rng(0)
    states = [{"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4).astype(np.float16)} for _ in range(2)]
    out = merge_state("linear", states, parameters={"weight": [1.0, 3.0]})
    np.testing.assert_allclose(out["w"], 0.25 * states[0]["w"] + 0.75 * states[1]["w"], rtol=1e-15)
    assert out["w"].dtype == np.float64 and out["b"].dtype == np.float16


def test_arrays_of_any_layout_are_read_and_none_is_changed() -> None:
    wide = np.arange(48, dtype=np.float32).reshape(6, 8)
    view, other = wide[::2, ::-1].T, np.ones((8, 3), np.float32)
    view.flags.writeable = False
    before = view.copy()
    out = merge_state("slerp", [{"w": view}, {"w": other}], parameters={"t": 0.0})
    np.testing.assert_allclose(out["w"], before, rtol=1e-6)
    assert np.array_equal(view, before)


def test_a_fortran_ordered_and_an_empty_state() -> None:
    a = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    out = merge_state("linear", [{"w": a}, {"w": a}])
    assert np.array_equal(out["w"], a)
    assert merge_state("linear", [{}, {}]) == {}


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match=r"w: a list can't be merged"):
        merge_state("linear", [{"w": [1, 2]}])  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="a int can't be merged"):
        merge("linear", [3])
    with pytest.raises(UsageError, match="did you mean 'ties'"):
        merge_state("tie", [])
    with pytest.raises(FindingsError, match="at least one model, got 0"):
        merge_state("linear", [])
    with pytest.raises(FindingsError, match="weights add up to zero"):
        merge_state("linear", [{"w": np.ones(2)}] * 2, parameters={"weight": [1, -1]})
    with pytest.raises(FindingsError, match="model 2: w: NaN at element 1"):
        merge_state("linear", [{"w": np.ones(2)}, {"w": np.array([1, np.nan])}])


def test_torch_modules_state_dicts_bfloat16_and_the_callable_package() -> None:
    import torch

    torch.manual_seed(0)
    nets = [torch.nn.Linear(4, 3).bfloat16() for _ in range(3)]
    by_module = tunemerge.merge("task_arithmetic", nets[:2], base=nets[2], weight=[0.5, 0.25], lambda_=0.5)
    states = [n.state_dict() for n in nets]
    by_state = merge("task_arithmetic", states[:2], base=states[2], weight=[0.5, 0.25], **{"lambda": 0.5})
    a, b, base = (s["weight"].double() for s in states)
    expected = (base + 0.5 * (0.5 * (a - base) + 0.25 * (b - base))).bfloat16()
    for out in (by_module, by_state):
        assert out["weight"].dtype == torch.bfloat16 and torch.equal(out["weight"], expected)
    nets[0].load_state_dict(by_module)


def test_tied_weights_stay_tied() -> None:
    import torch

    def tied() -> dict[str, object]:
        weight = torch.randn(20, 8)
        return {"embed": weight, "body": torch.randn(3), "head": weight}

    out = merge("dare_ties", [tied(), tied()], base=tied(), density=0.5)
    assert list(out) == ["embed", "body", "head"]
    assert out["embed"].data_ptr() == out["head"].data_ptr()


def test_torch_is_not_imported_for_numpy() -> None:
    import subprocess

    code = (
        "import sys, numpy as np; from tunemerge.merge.memory import merge; "
        "merge('ties', [{'w': np.ones(3)}], base={'w': np.zeros(3)}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
