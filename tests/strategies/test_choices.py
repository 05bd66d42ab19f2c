"""Choices inside an order, read off the graphs: the method of a merge, the learning rate of a tuning."""

from dataclasses import replace

import pytest
from test_presets import build, rows, setting, spent

from tunemerge.graph.step import Step
from tunemerge.strategies.setting import Merging

RATES = (1e-5, 1e-4, 1e-3)
TUNED = ["merge_then_tune", "tune_then_merge", "tune_merge_tune", "joint", "sequential", "base_probe", "ensemble"]


def choosing(*methods, **changes):
    merging = [Merging(m, [{}]) for m in methods]
    return replace(setting(**changes), merging=lambda n: merging)


def choice_of(select: Step) -> Step:
    assert select.op == "select"
    (choice,) = select.inputs["choice"]
    return choice


def test_of_several_methods_the_merge_with_the_best_search_is_tuned_and_only_that():
    s = choosing("linear", "ties")
    answer = build("merge_then_tune", s)
    assert answer.op == "tune" and spent(answer) == 8 * 16
    (best,) = answer.inputs["model"]
    choice = choice_of(best)
    assert choice.params["candidates"] == [{"method": "linear"}, {"method": "ties"}]
    assert [m.params["method"] for m in best.inputs["models"]] == ["linear", "ties"]
    assert choice.inputs["searches"] == tuple(m.inputs["choice"][0] for m in best.inputs["models"])


def test_one_method_needs_no_choice():
    (merge,) = build("merge_then_tune", choosing("ties")).inputs["model"]
    assert merge.op == "merge"


@pytest.mark.parametrize("name", TUNED)
@pytest.mark.parametrize("target", [None, "t"])
def test_every_arm_spends_the_budget_once_a_rate(name, target):
    s = replace(setting(target=target, tasks=(("t", 40),) if target else (("a", 30), ("b", 10))), rates=RATES)
    answer = build(name, s)
    assert spent(*(answer.models if name == "ensemble" else [answer])) == 3 * 8 * 16


def test_each_expert_takes_its_own_best_rate_by_its_own_rows():
    s = replace(setting(), rates=RATES)
    for expert, task in zip(build("tune_then_merge", s).inputs["models"], "ab", strict=True):
        choice = choice_of(expert)
        assert [c["learning_rate"] for c in choice.params["candidates"]] == list(RATES)
        assert [t.params["tuning"]["learning_rate"] for t in expert.inputs["models"]] == list(RATES)
        assert {p.inputs["rows"] for p in choice.inputs["predictions"]} == {s.adapt[task].validation}
        assert [p.inputs["models"][0] for p in choice.inputs["predictions"]] == list(expert.inputs["models"])


def test_one_rate_is_a_setting_and_no_choice():
    s = replace(setting(), rates=(1e-3,))
    answer = build("joint", s)
    assert answer.op == "tune" and answer.params["tuning"]["learning_rate"] == 1e-3
    same = {**s.tuning, "learning_rate": 1e-3}
    assert answer.key == build("joint", replace(s, rates=(), tuning=same)).key


def test_what_is_tuned_after_a_choice_reads_the_chosen_model():
    s = replace(setting(), rates=RATES)
    last = choice_of(build("sequential", s)).inputs["predictions"][0].inputs["models"][0]
    assert last.inputs["model"][0].op == "select"
    assert rows("b", "adapt", 10).train == last.inputs["train"]
