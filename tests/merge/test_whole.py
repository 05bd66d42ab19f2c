"""A method that has only its reference: it runs on whole tensors, and keeps the contracts that all methods keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tunemerge.errors import TunemergeError
from tunemerge.merge.memory import merge_state
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.parameters import LAMBDA, Values
from tunemerge.testing.methods import CONTRACTS


def median(tensors: Sequence[Any], base: Any, values: Values) -> Any:
    import torch

    assert base is not None
    return base + values["lambda"] * torch.stack([x - base for x in tensors]).quantile(0.5, dim=0)


MEDIAN = Method(
    name="whole_median", paper="", summary="the middle task vector", parameters=(LAMBDA,), base="needed",
    reference=median, symmetric=True,
)  # fmt: skip


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[Method], None]:
    def add(method: Method) -> None:
        METHODS.names()
        monkeypatch.setitem(METHODS._items, method.name, method)

    return add


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
def test_contract(contract: Callable[[Method], None]) -> None:
    contract(MEDIAN)


def test_it_merges_a_model(registered: Callable[[Method], None]) -> None:
    registered(MEDIAN)
    base = {"a": np.array([[1.0, 2.0]], np.float32), "b": np.array(3.0, np.float32)}
    models = [{name: np.asarray(array + step) for name, array in base.items()} for step in (1, 2, 30)]
    merged = merge_state("whole_median", models, base, {"lambda": 0.5})
    assert merged["a"].tolist() == [[2.0, 3.0]] and merged["b"].tolist() == 4.0
    assert MEDIAN.torch and MEDIAN.grid(3, 5) == [{}]


def test_a_reference_of_another_shape_is_refused(registered: Callable[[Method], None]) -> None:
    import torch

    shapeless = Method(
        name="shapeless", paper="", summary="", parameters=(), base="no",
        reference=lambda tensors, base, values: torch.zeros(3),
    )  # fmt: skip
    registered(shapeless)
    models = [{"a": np.ones((2, 2), np.float32)}] * 2
    with pytest.raises(TunemergeError, match=r"a: the method's reference gave .* shape \[3\], expected \[2, 2\]"):
        merge_state("shapeless", models, None, {})
