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


def test_no_method_got_lost() -> None:
    geometric = {
        "arcee_fusion",
        "karcher",
        "linear",
        "model_stock",
        "multislerp",
        "nearswap",
        "nuslerp",
        "passthrough",
        "slerp",
    }
    beyond = {"consensus_ta", "iso_c", "iso_cts", "magmax", "pcb", "tsv_m", "wise", "wudi"}
    assert beyond | geometric | {"dare_ties", "task_arithmetic", "ties"} <= set(METHODS.names())
