"""The contract suite over every registered method."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunemerge.merge.method import METHODS, Method
from tunemerge.testing.methods import CONTRACTS


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
def test_contract(name: str, contract: Callable[[Method], None]) -> None:
    contract(METHODS[name])


def test_the_five_methods_are_there() -> None:
    assert METHODS.names() == ["dare_ties", "linear", "slerp", "task_arithmetic", "ties"]
