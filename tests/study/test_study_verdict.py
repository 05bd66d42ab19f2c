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
        merges=role == "order",
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
    arms = [replace(a, validation_by_seed=a.validation_by_seed[: len(seeds)]) for a in arms]
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


def test_one_seed_leads_on_these_rows_and_claims_nothing():
    far = replace(contrast(-0.169, 0.042, 0.0), covers_seeds=False, seeds_to_settle=None)
    v = decide({(MTT, TTM): far}, seeds=[0])
    assert v.kind == "leads" and v.winner is None and "its seeds" not in v.handed_back_reason
    assert v.sentence.startswith(
        f"{TTM} leads {MTT} by 16.9 [12.7, 21.1] points on these test rows; with one seed nothing"
    )
    near = replace(UNSURE, covers_seeds=False, seeds_to_settle=None)
    assert "take 5 or more" in decide({(MTT, TTM): near}, seeds=[0]).sentence


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2], SEEDS])
@pytest.mark.parametrize("p", [0.0, 0.004, 0.03, 0.2])
def test_no_sentence_denies_what_its_interval_shows(p, seeds):
    """ "No reliable difference" never stands beside an interval without 0, and no p is "0.00"."""
    for sign in (1, -1):
        one = replace(contrast(sign * 0.05, 0.02 if p < 0.05 else 0.07, p), covers_seeds=len(seeds) > 1)
        v = decide({(MTT, TTM): one, (MTT, TMT): one, (TTM, TMT): one, (MTT, JOINT): one}, seeds=seeds)
        for text in (v.sentence, *v.details):
            assert "p 0.00" not in text
            assert ("o reliable difference" in text) == (p >= 0.05), text
            if "reliable" in text:
                assert "-" in text.replace("−", "-")


def test_ahead_but_not_after_holm():
    v = decide({(MTT, TTM): contrast(-0.03, 0.02, 0.03)})
    assert v.kind == "inconclusive"
    assert v.sentence.startswith(f"{TTM} is ahead of {MTT} by 3.0 [1.0, 5.0] points, which does not hold over all")


def test_the_headline_is_not_told_twice():
    v = decide({(MTT, TTM): WIN, (MTT, TMT): WIN})
    assert not any(TTM in d and MTT in d for d in v.details)
    assert sum(TMT in d for d in v.details) == 2


def demo(validation, cost, joint=UNSURE, **more):
    plain = arm("expert_tuned/amazon", validation, role="alternative", cost=cost)
    best_single = arm("best_single", 0.9, role="control", matched=False)
    arms = [arm(MTT, 0.82, cost=2.0), arm(TTM, 0.8), plain, best_single]
    return decide({(MTT, TTM): WIN, (MTT, plain.name): joint}, arms, **more)


def test_where_a_plain_tuning_is_handed_back_the_verdict_says_that_merging_was_not_needed():
    v = demo(0.825, cost=1.0)
    assert v.winner == MTT and v.handed_back == "expert_tuned/amazon"
    assert v.details[0] == (
        "but merging was not needed: expert_tuned/amazon, which merges nothing, scores better on validation (which "
        "alone chooses) and is cheaper, so it is handed back"
    )
    assert "scores within the margin on validation" in demo(0.815, cost=1.0).details[0]
    assert "cheaper" not in demo(0.825, cost=9.0).details[0]
    # On test the merge is reliably better: it is not said that it was not needed.
    assert demo(0.825, cost=1.0, joint=WIN).details[0].startswith("but expert_tuned/amazon, which merges nothing")
    assert not demo(0.7, cost=1.0).details[0].startswith("but")


def test_a_merge_that_is_handed_back_after_dont_merge_says_why():
    v = decide({(MTT, JOINT): LOSS})
    assert v.kind == "dont_merge" and v.handed_back == MTT
    assert v.details[0].startswith(f"but {MTT}, a merge, scores better on validation")


def test_the_reason_names_the_arms_that_it_is_true_of():
    """best_single stands above it in the table: it spends more, and is none of them."""
    assert demo(0.825, cost=1.0).handed_back_reason.startswith(
        "expert_tuned/amazon has the best mean validation score of the single checkpoints within the budget"
    )


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
