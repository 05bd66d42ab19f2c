from pathlib import Path
from types import MappingProxyType

import graph_operations as ops
import pytest

from tunemerge.graph.operation import OPERATIONS, Operation
from tunemerge.graph.step import Leaf, Step

LEAF = Leaf("d" * 64, Path("/data/rows.parquet"), "rows", "rows")
OTHER = Leaf("e" * 64, Path("/data/rows.parquet"), "rows", "rows")
PARAMS = {"plus": 3, "rate": 1e-05, "names": ["a", "b"], "nested": {"x": None, "y": True}}


def step(**changes):
    values = {"op": "t-sum", "params": PARAMS, "inputs": {"a": (LEAF, OTHER), "b": (ops.number(1),)}, "label": "s"}
    return Step(**{**values, **changes})


def test_golden_keys():
    """These must never change by accident: all stores in the world would be computed again."""
    assert ops.number(1).key == "b6f234dfdf4ff9c37bbc5de7c8f4594dcca8d6947491926781e7d387b5040da3"
    assert step().key == "0a6aed4588bf56352e173b5526bf30517b360e380cc806f90689a96a8dcf9077"


@pytest.mark.parametrize(
    "changes",
    [
        {"op": "t-other"},
        {"params": {**PARAMS, "plus": 4}},
        {"params": {**PARAMS, "rate": 1.0000000000000002e-05}},
        {"params": {**PARAMS, "names": ["b", "a"]}},
        {"params": {**PARAMS, "nested": {"x": None, "y": 1}}},
        {"params": {**PARAMS, "more": None}},
        {"params": {"plus": 3}},
        {"inputs": {"a": (OTHER, LEAF), "b": (ops.number(1),)}},
        {"inputs": {"a": (LEAF,), "b": (ops.number(1),)}},
        {"inputs": {"a": (LEAF, OTHER), "c": (ops.number(1),)}},
        {"inputs": {"a": (LEAF, OTHER), "b": (ops.number(2),)}},
        {"inputs": {"a": (LEAF, OTHER), "b": (ops.number(1, LEAF),)}},
        {"inputs": {"a": (LEAF, OTHER)}},
    ],
)
def test_the_key_changes_with_what_matters(changes):
    assert step(**changes).key != step().key
    assert step(**changes) != step()


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "another"},
        {"params": MappingProxyType(dict(reversed(PARAMS.items())))},
        {"params": {**PARAMS, "names": ("a", "b")}},
        {"inputs": {"b": (ops.number(1, label="x"),), "a": (LEAF, OTHER)}},
        {"inputs": {"a": (Leaf("d" * 64, Path("/moved"), "model", "y"), OTHER), "b": (ops.number(1),)}},
    ],
)
def test_the_key_does_not_change_with_what_does_not_matter(changes):
    assert step(**changes).key == step().key
    assert step(**changes) == step()
    assert len({step(**changes), step()}) == 1


@pytest.mark.parametrize(
    "changed", [{"version": 2}, {"environment": lambda: {"numbers": "rounded"}}, {"environment": dict}]
)
def test_the_key_changes_with_version_and_environment(monkeypatch, changed):
    step_of = {"a": lambda: Step("t-sum", PARAMS), "below": lambda: Step("t-other", {}, {"x": (ops.number(1),)})}
    before = {name: make().key for name, make in step_of.items()}
    values = {"name": "t-sum", "version": 1, "run": ops.add, "environment": lambda: ops.ENVIRONMENT}
    monkeypatch.setitem(OPERATIONS._items, "t-sum", Operation(**{**values, **changed}))
    for name, make in step_of.items():
        assert make().key != before[name]


def test_parameters_that_are_not_json_are_refused():
    with pytest.raises(ValueError):
        _ = step(params={"rate": float("nan")}).key
    with pytest.raises(TypeError):
        _ = step(params={"path": Path("x")}).key
