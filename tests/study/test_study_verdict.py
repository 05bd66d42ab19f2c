"""Verdicts from contrasts that are written down: what the words say follows from the numbers."""

from dataclasses import replace

import pytest

from tunemerge.stats.components import Contrast
from tunemerge.study.verdict import ArmSummary, chosen_by_validation, hand_back, judge, verdict

SEEDS = [0, 1, 2, 3, 4]


def arm(name, validation=0.8, role="order", cost=1.0, **more) -> ArmSummary:
    fields = dict(
        name=name,
        strategy=name.split("/")[0],
        role=role,
        deliverable=True,
        matched=True,
        validation=validation,
        validation_by_seed=(validation,) * 5,
        cost=cost,
        test=validation,
    )
    return ArmSummary(**{**fields, **more})


def contrast(difference, half, p) -> Contrast:
    return Contrast(
        difference=difference,
        low=difference - half,
        high=difference + half,
        low90=difference - 0.8 * half,
        high90=difference + 0.8 * half,
        p=p,
        df=10.0,
        by_seed=(difference,) * 5,
        probability_a_better=0.5 + difference,
        smallest_detectable=1.4 * half,
        seeds_to_settle=12,
        covers_seeds=True,
    )


WIN, LOSS = contrast(0.05, 0.02, 0.001), contrast(-0.05, 0.02, 0.001)
EQUAL, UNSURE = contrast(0.001, 0.004, 0.7), contrast(0.02, 0.04, 0.3)
MTT, TTM, TMT, JOINT = "merge_then_tune/ties", "tune_then_merge/ties", "tune_merge_tune/ties", "joint"


def decide(table, arms=None, seeds=SEEDS, margin=0.01):
    arms = arms or [arm(MTT, 0.82), arm(TTM), arm(TMT), arm(JOINT, 0.7, role="alternative")]
    judged = judge(arms, lambda a, b: table.get((a, b), UNSURE), margin, len(seeds))
    return verdict(arms, judged, margin, seeds, "accuracy")


def test_an_order_that_beats_all_others_wins():
    v = decide({(MTT, TTM): WIN, (MTT, TMT): WIN, (MTT, JOINT): WIN})
    assert v.kind == "better" and v.winner == MTT
    assert v.sentence == f"{MTT} beats {TTM} by 5.0 [3.0, 7.0] points, at equal budget."


def test_the_main_pair_decides_where_the_hybrid_is_unclear():
    assert decide({(MTT, TTM): LOSS}).winner == TTM


def test_a_winner_that_the_hybrid_beats_is_none():
    v = decide({(MTT, TTM): WIN, (MTT, TMT): LOSS, (TTM, TMT): LOSS})
    assert v.winner == TMT and v.sentence.startswith(TMT)


def test_equivalent_orders_take_the_cheaper():
    arms = [arm(MTT, cost=2.0), arm(TTM, cost=1.0), arm(JOINT, 0.7, role="alternative")]
    v = decide({(MTT, TTM): EQUAL}, arms)
    assert v.kind == "equivalent" and v.winner == TTM and "take the cheapest" in v.sentence


def test_inconclusive_says_what_would_settle_it():
    v = decide({})
    assert v.kind == "inconclusive" and v.winner is None
    assert "about 12 seeds would settle" in v.sentence and "under 5.6 points" in v.sentence and "hardly" in v.sentence


def test_dont_merge_where_the_best_alternative_is_better():
    v = decide({(MTT, TTM): WIN, (MTT, JOINT): LOSS})
    assert v.kind == "dont_merge" and v.winner == JOINT and v.sentence.startswith("Don't merge: joint beats")


def test_under_five_seeds_nobody_wins():
    v = decide({(MTT, TTM): WIN, (MTT, TMT): WIN, (MTT, JOINT): WIN}, seeds=[0, 1, 2])
    assert v.kind == "leads" and v.winner is None and "not settled with 3 seeds" in v.sentence


def test_one_order_only():
    v = decide({}, [arm(MTT), arm(JOINT, 0.7, role="alternative")])
    assert v.kind == "inconclusive" and "Fewer than two orders" in v.sentence


def test_holm_covers_every_pair_of_orders_and_the_best_alternative():
    arms = [arm(MTT), arm(TTM), arm(TMT), arm(JOINT, 0.7, role="alternative")]
    judged = judge(arms, lambda a, b: contrast(0.02, 0.02, 0.02), 0.001, 5)
    assert [j.p_holm for j in judged] == pytest.approx([0.08] * 4)
    assert {j.outcome for j in judged} == {"inconclusive"}


def test_the_method_within_an_order_is_chosen_on_validation_not_on_test():
    a, b = arm("merge_then_tune/linear", 0.80, test=0.9), arm("merge_then_tune/ties", 0.81, test=0.1)
    assert chosen_by_validation([a, b]) == [b]


def test_handed_back_is_the_cheapest_within_the_margin_by_validation():
    best, near, far = arm("a", 0.82, cost=3), arm("b", 0.815, cost=1), arm("c", 0.7, cost=0)
    chosen, _, reason = hand_back([best, near, far], 0.01)
    assert chosen.name == "b" and "cheapest within the margin" in reason
    assert hand_back([best, near, far], 0.001)[0].name == "a"


def test_an_ensemble_or_an_arm_that_spends_more_is_never_handed_back():
    arms = [arm("ensemble", 0.95, deliverable=False), arm("joint_total", 0.94, matched=False), arm("a", 0.8)]
    assert hand_back(arms, 0.01)[0].name == "a"
    assert hand_back(arms[:2], 0.01) is None


def test_the_median_seed_is_handed_back():
    a = replace(arm("a"), validation_by_seed=(0.9, 0.7, 0.8, 0.6, 0.95))
    assert hand_back([a], 0.01)[1] == 2


def test_where_the_test_disagrees_the_verdict_says_so():
    arms = [arm(MTT, 0.82, test=0.75), arm(TTM, 0.8, test=0.9), arm(JOINT, 0.7, role="alternative")]
    v = decide({}, arms)
    assert any("on test, " + TTM + " scores 15.0 points above" in d for d in v.details)
