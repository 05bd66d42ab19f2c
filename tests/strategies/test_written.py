"""Strategies written as steps: the same graphs as the functions that say the same."""

import pytest
from pydantic import ValidationError
from test_presets import build, setting

from tunemerge.strategies.setting import BudgetError, Ensemble
from tunemerge.strategies.written import WrittenStrategy, as_strategy


def written(steps, **more):
    return WrittenStrategy.model_validate({"name": "mine", "steps": steps, **more})


def read(steps, s, **more):
    return as_strategy(written(steps, **more)).build(s)


SAME = {
    "merge_then_tune": {"m": {"merge": "pool"}, "out": {"tune": "m", "budget": 1}},
    "tune_then_merge": {
        "out": {"merge": ["a", "b"]},  # in any order
        "a": {"tune": "pool.a", "on": "a", "budget": 0.75},
        "b": {"tune": "pool.b", "on": ["b"], "budget": 0.25},
    },
    "sequential": {
        "first": {"tune": "base", "on": "a", "budget": 0.75},
        "then": {"tune": "first", "on": "b", "budget": 0.25},
    },
    "joint": {"all": {"tune": "base", "on": ["a", "b"], "budget": 1}},
    "base_probe": {"probe": {"tune": "base", "budget": 1, "head_only": True}},
    "merge_only": {"m": {"merge": ["pool.a", "pool.b"]}},
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_graph_as_the_function(name):
    assert read(SAME[name], setting()).key == build(name, setting()).key


def test_an_ensemble_and_a_choice():
    s = setting()
    tuned = {k: v for k, v in SAME["tune_then_merge"].items() if k != "out"}
    ensemble = read({**tuned, "out": {"ensemble": ["a", "b"]}}, s)
    assert isinstance(ensemble, Ensemble) and ensemble.models == build("ensemble", s).models
    chosen = read({**tuned, "out": {"select": ["a", "b"]}}, s)
    assert chosen.op == "select" and chosen.inputs["models"] == ensemble.models


@pytest.mark.parametrize(
    ("steps", "role", "merges", "spends"),
    [
        (SAME["merge_then_tune"], "order", True, "budget"),
        (SAME["joint"], "alternative", False, "budget"),
        (SAME["merge_only"], "control", True, "nothing"),
        ({"out": {"ensemble": ["pool.a", "pool.b"]}}, "control", False, "nothing"),
    ],
)
def test_what_it_counts_as_follows_from_its_steps(steps, role, merges, spends):
    strategy = as_strategy(written(steps))
    assert (strategy.role, strategy.merges, strategy.spends) == (role, merges, spends)
    assert as_strategy(written(steps, role="control")).role == "control"


def test_a_share_without_a_step_is_a_budget_too_small():
    with pytest.raises(BudgetError):
        read(SAME["sequential"], setting(budget=1))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"tune": "base"}, "needs `budget`"),
        ({"merge": ["a", "b"], "budget": 0.5}, "budget: only a step that tunes has this"),
        ({"merge": ["a"], "tune": "a", "budget": 1}, "this one has tune, merge"),
        ({}, "this one has none"),
        ({"tune": "base", "budget": 1.5}, "less than or equal to 1"),
        ({"merge": []}, "at least 1"),
    ],
)
def test_a_step_does_one_thing(step, said):
    with pytest.raises(ValidationError, match=said):
        written({"out": step})


@pytest.mark.parametrize("name", ["base", "pool", "mix", "pool.a"])
def test_names_that_mean_something_else_are_no_steps(name):
    with pytest.raises(ValidationError):
        written({name: {"merge": ["pool"]}})


def test_cycles_and_ends():
    one = written({"a": {"merge": ["b"]}, "b": {"merge": ["c", "base"]}, "c": {"merge": ["a"]}, "d": {"merge": "pool"}})
    assert one.cycle() == ["a", "b", "c", "a"] and one.ends == ["d"]
    assert written(SAME["sequential"]).cycle() == [] and written(SAME["sequential"]).ends == ["then"]
