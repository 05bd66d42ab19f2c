import sys
from pathlib import Path

import graph_operations as ops
import pytest

import tunemerge.evaluate.operation  # noqa: F401  (the operation "predict")
from tunemerge.findings import FindingsError
from tunemerge.graph.plan import Plan, refuse_test_leaks
from tunemerge.graph.step import Leaf, Step

TASK = {"task": {"kind": "text-classification", "labels": [], "options": {}}}
ROWS = Leaf("a" * 64, Path("rows"), "rows", "train rows")
TEST = Leaf("b" * 64, Path("test"), "test", "test rows")


def final(*inputs, label="final", **params):
    return Step("predict", {**TASK, "final": True, **params}, {"models": inputs, "rows": (TEST,)}, label)


def test_parents_come_first_in_the_order_of_the_targets():
    a, b = ops.number(1), ops.number(2)
    c, d = ops.number(3, b, a), ops.number(4, a)
    assert [s.params["plus"] for s in Plan.of([d, c]).steps] == [1, 4, 2, 3]
    assert [s.params["plus"] for s in Plan.of([c, d]).steps] == [2, 1, 3, 4]


def test_every_step_comes_once_and_after_its_parents():
    plan = ops.diamond()
    keys = [s.key for s in plan.steps]
    assert len(keys) == len(set(keys)) == 14
    for place, step in enumerate(plan.steps):
        for parent in step.parents():
            assert keys.index(parent.key) < place


def test_equal_steps_are_one_and_the_first_label_stays():
    plan = Plan.of([ops.number(1, ROWS, label="first"), ops.number(1, ROWS, label="second")])
    assert [s.label for s in plan.steps] == ["first"]
    assert len(plan.targets) == 1
    assert plan.leaves == (ROWS,)


def test_a_chain_longer_than_the_recursion_limit():
    step = ops.number(0)
    for n in range(1, 3 * sys.getrecursionlimit()):
        step = ops.number(n, step)
    assert [s.params["plus"] for s in Plan.of([step]).steps][:2] == [0, 1]


def test_a_last_evaluation_may_read_the_test_rows():
    refuse_test_leaks(Plan.of([final(ops.number(1, ROWS))]))


def test_all_leaks_are_found():
    evaluation = final(ops.number(1, ROWS))
    leaks = Plan.of(
        [
            ops.number(2, TEST, label="trains on test"),
            Step("predict", {**TASK, "final": False}, {"rows": (TEST,)}, "not the last"),
            Step("predict", TASK, {"rows": (TEST,)}, "not said"),
            ops.number(3, evaluation, label="chooses by test"),
            final(evaluation, label="twice"),
        ]
    )
    with pytest.raises(FindingsError) as caught:
        refuse_test_leaks(leaks)
    assert {f.code for f in caught.value.findings} == {"test-leak"}
    assert [f.where for f in caught.value.findings] == [
        "trains on test",
        "not the last",
        "not said",
        "chooses by test",
        "twice",
    ]
    assert "'test rows'" in str(caught.value)


def test_a_copy_of_the_test_rows_under_another_role_is_found():
    copy = Leaf(TEST.digest, Path("copy"), "rows", "innocent rows")
    with pytest.raises(FindingsError, match="trained"):
        refuse_test_leaks(Plan.of([final(ops.number(1, ROWS)), ops.number(2, copy, label="trained")]))
