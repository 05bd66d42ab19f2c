"""`choose_method: before_tuning`: an order that tunes its merge chooses the method by the merge, and tunes once."""

from collections import Counter

import pytest

from small import SPLITS, run, small_study, write_table

ORDERS = ["merge_then_tune", "tune_then_merge", "tune_merge_tune", "merge_only"]
STUDY = {"strategies": ORDERS, "candidates": 1, "choose_method": "before_tuning", "seeds": 2}


def ran(results):
    """How many steps of each operation were computed, and not found."""
    return Counter(s.op for s in results.steps if not s.cached)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def two(folder, tiny_bert):
    return run(small_study(folder, tiny_bert, methods=["linear", "ties"], **STUDY))


@pytest.fixture(scope="module")
def three(folder, tiny_bert, two):
    """The same study on the same store, with one method more."""
    return run(small_study(folder, tiny_bert, methods=["linear", "ties", "slerp"], name="three", **STUDY))


def arm(results, name):
    return next(a for a in results.arms if a.name == name)


def test_orders_that_tune_their_merge_are_one_arm_and_the_others_one_a_method(two):
    merged_last = [f"{o}/{m}" for o in ("tune_then_merge", "merge_only") for m in ("linear", "ties")]
    assert {a.name for a in two.arms if not a.simple} == {"merge_then_tune", "tune_merge_tune", *merged_last}


def test_the_choice_is_the_better_search_at_each_seed(two):
    steps = {s.key: s for s in two.steps}
    choices = [s for s in two.steps if s.op == "pick"]
    assert len(choices) == 4  # two orders, two seeds
    for choice in choices:
        best = [max(t.score for t in steps[key].trials) for key in choice.inputs]
        assert [t.score for t in choice.trials] == best
        assert [t.chosen for t in choice.trials].index(True) == best.index(max(best))


def test_the_arm_says_what_was_chosen_and_pays_for_all_searches_but_one_tuning(two):
    order = arm(two, "merge_then_tune")
    assert order.method is None and order.merges
    assert list(order.chosen["method"]) == ["linear", "ties"] and sum(order.chosen["method"].values()) == 2
    assert order.marginal.examples == 64 and order.marginal.trials == 2
    assert arm(two, "tune_then_merge/ties").marginal.trials == 1


def test_adding_a_method_that_does_not_win_trains_nothing(two, three):
    before, after = (arm(r, "merge_then_tune") for r in (two, three))
    assert after.chosen["method"] == {**before.chosen["method"], "slerp": 0}  # what this test is about
    assert arm(three, "tune_merge_tune").chosen["method"]["slerp"] == 0
    assert ran(three)["tune"] == 0
    assert ran(three)["search"] == ran(three)["merge"] == 3 * 2  # slerp, for each order, at each seed
    assert after.test_by_seed == before.test_by_seed
    assert [p.digest for p in three.steps if p.op == "tune"] == [p.digest for p in two.steps if p.op == "tune"]
    assert three.study_cost.examples == two.study_cost.examples


def test_choosing_after_tuning_trains_only_what_was_not_chosen(folder, tiny_bert, two):
    """The merge that was chosen is tuned already, whoever asked for it."""
    study = {**STUDY, "strategies": ["merge_then_tune"], "choose_method": "after_tuning", "name": "after"}
    results = run(small_study(folder, tiny_bert, methods=["linear", "ties"], **study))
    assert {a.name for a in results.arms if not a.simple} == {"merge_then_tune/linear", "merge_then_tune/ties"}
    assert ran(results)["tune"] == 2  # the other method's, at each seed
    assert ran(two)["tune"] > 2


def test_a_method_that_cannot_merge_the_pool_is_listed_and_the_others_are_chosen_from(tmp_path, tiny_bert):
    write_table(tmp_path / "c.csv", 200, 7)
    tasks = {n: {"data": f"{n}.csv", "splits": SPLITS} for n in "abc"}
    study = small_study(tmp_path, tiny_bert, tasks=tasks, methods=["linear", "slerp"], **STUDY)
    plan = study.plan()
    assert [a.method for a in plan.arms if a.name == "merge_then_tune"] == ["linear"]
    assert "two models" in dict(plan.unavailable)["merge_then_tune/slerp"]
