"""What the orders are, read off the graphs that they build."""

from dataclasses import replace

import pytest

import tunemerge.study.operations  # noqa: F401
from tunemerge.strategies.setting import (
    BudgetError,
    Ensemble,
    PerTask,
    Setting,
    UnavailableError,
    allot,
)
from tunemerge.strategies.strategy import STRATEGIES
from tunemerge.testing.strategies import rows, steps_of
from tunemerge.testing.strategies import setting as contract_setting


def setting(tasks=(("a", 30), ("b", 10)), pool=("a", "b"), target=None, budget=8) -> Setting:
    return contract_setting(dict(tasks), pool, target, budget)


def build(name: str, s: Setting, *more: str):
    return STRATEGIES[name].build(s, *more)


def spent(*nodes) -> int:
    """Training examples of all tune steps above the nodes, each step once."""
    return sum(step.params["examples"] for step in steps_of(*nodes) if step.op == "tune")


@pytest.mark.parametrize("name", ["merge_then_tune", "tune_then_merge", "tune_merge_tune", "joint", "sequential"])
@pytest.mark.parametrize("target", [None, "t"])
def test_every_order_spends_exactly_the_budget(name, target):
    s = setting(target=target, tasks=(("t", 40),) if target else (("a", 30), ("b", 10)))
    assert spent(build(name, s)) == 8 * 16


def test_merge_then_tune_merges_the_pool_and_tunes_on_the_mix():
    s = setting()
    answer = build("merge_then_tune", s)
    assert answer.op == "tune" and answer.inputs["train"] == s.mix.train
    (merge,) = answer.inputs["model"]
    assert merge.op == "merge" and merge.inputs["models"] == tuple(s.pool.values())
    (search,) = merge.inputs["choice"]
    assert search.inputs["validation"] == s.mix.validation


def test_tune_then_merge_matches_models_and_tasks_by_name_and_shares_by_rows():
    s = setting(pool=("b", "a"))  # another order than the tasks'
    tuned = build("tune_then_merge", s).inputs["models"]
    assert [t.inputs["model"][0] for t in tuned] == [s.pool["a"], s.pool["b"]]
    assert [t.inputs["train"][0].label for t in tuned] == ["a-adapt", "b-adapt"]
    assert [t.params["examples"] for t in tuned] == [6 * 16, 2 * 16]


def test_a_task_without_a_model_starts_from_the_base_and_a_model_without_a_task_is_a_reason():
    s = setting(pool=("a",))
    assert [p.model for p in s.pairs] == [s.pool["a"], s.base]
    with pytest.raises(UnavailableError, match="no adapt rows for the pool's c"):
        build("tune_then_merge", setting(pool=("a", "c")))


def test_one_target_tunes_each_pool_model_on_it():
    s = setting(target="t", tasks=(("t", 40),))
    tuned = build("tune_then_merge", s).inputs["models"]
    assert [t.inputs["model"][0] for t in tuned] == list(s.pool.values())
    assert {t.inputs["train"] for t in tuned} == {s.adapt["t"].train}


def test_without_a_pool_merge_then_tune_is_joint_tuning():
    s = setting(pool=())
    assert build("merge_then_tune", s).key == build("joint", s).key


def test_with_one_model_both_orders_are_plain_tuning():
    s = setting(target="t", tasks=(("t", 40),), pool=("a",))
    plain = s.tune(s.pool["a"], s.mix, s.budget)
    assert build("merge_then_tune", s).key == build("tune_then_merge", s).key == plain.key


def test_with_one_target_sequential_is_joint():
    s = setting(target="t", tasks=(("t", 40),))
    assert build("sequential", s).key == build("joint", s).key


def test_the_ensemble_uses_the_very_models_that_tune_then_merge_merges():
    s = setting()
    ensemble = build("ensemble", s)
    assert isinstance(ensemble, Ensemble)
    assert ensemble.models == build("tune_then_merge", s).inputs["models"]


def test_experts_are_one_model_a_task():
    s = setting()
    experts = build("experts", s)
    assert isinstance(experts, PerTask) and list(experts.models) == ["a", "b"]
    assert spent(*experts.models.values()) == 8 * 16


def test_best_single_charges_every_trial():
    s = setting(target="t", tasks=(("t", 40),))
    assert spent(build("best_single", s)) == 2 * 8 * 16
    assert STRATEGIES["best_single"].spends == "more"


def test_joint_total_adds_what_the_pool_cost():
    assert spent(build("joint_total", setting())) == 640 + 8 * 16


def test_controls():
    s = setting()
    assert build("expert", s, "b") is s.pool["b"]
    assert build("expert_tuned", s, "b").inputs["train"] == s.adapt["b"].train
    assert build("base_probe", s).params["tuning"]["method"] == "head"
    assert build("merge_only", s).inputs["models"] == tuple(s.pool.values())


def test_a_budget_without_a_step_for_an_expert_is_refused():
    with pytest.raises(BudgetError, match="no optimizer step for b adapt"):
        build("tune_then_merge", setting(tasks=(("a", 1000), ("b", 1)), budget=4))


def test_a_method_that_cannot_merge_this_pool_is_a_reason():
    s = replace(setting(pool=("a", "b", "c")), merging=lambda n: "slerp merges exactly two models, got 3")
    with pytest.raises(UnavailableError, match="exactly two"):
        build("merge_only", s)


@pytest.mark.parametrize(
    ("steps", "shares"), [(10, [1, 1, 1]), (7, [5, 3, 1]), (1, [1, 2]), (0, [1, 1]), (99, [0.2] * 5)]
)
def test_allotments_sum_exactly_and_stay_within_one_of_their_share(steps, shares):
    out = allot(steps, shares)
    assert sum(out) == steps
    assert all(abs(n - steps * s / sum(shares)) < 1 for n, s in zip(out, shares, strict=True))


def test_the_seed_and_only_what_matters_is_in_the_key():
    s = setting()
    key = s.tune(s.base, s.mix, 4).key
    assert replace(s, seed=1).tune(s.base, s.mix, 4).key != key
    assert s.tune(s.base, s.mix, 5).key != key
    assert replace(s, metric="macro_f1", pool_examples=0).tune(s.base, s.mix, 4).key == key


def test_every_strategy_describes_itself():
    for name, strategy in STRATEGIES:
        assert strategy.description.endswith("."), name
        assert len(strategy.description) < 100, name


def test_people_know_steps_by_what_they_do():
    s = setting(tasks=(("a", 30), ("b", 10), ("c", 8)))
    s = replace(s, source={n: rows(n, "source", 100) for n in "abc"}, pool_examples=32)
    assert build("joint", s).label.endswith("8 steps on a+b+c adapt")
    assert build("joint_total", s).label.endswith("10 steps on a+b+c adapt + a+b+c source")
    assert build("base_probe", s).label.startswith("linear probe: ")
    last = build("sequential", s)
    assert last.label.startswith("sequential 3/3, c: sequential 2/3, b, ")
    assert last.inputs["model"][0].label.startswith("sequential 2/3, b: sequential 1/3, a, ")
