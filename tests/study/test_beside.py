"""The model handed back against the best simple model, and against what runs today: what the verdict says of it."""

import pytest

from tunemerge.results import ContrastResult, Interval, Verdict
from tunemerge.study.beside import with_beside

VERDICT = Verdict(kind="better", sentence="A beats B.", details=["first"], winner="a", handed_back="joint",
                  handed_back_seed=0, handed_back_reason="joint has the best mean validation score")  # fmt: skip


def contrast(outcome, value=0.0, b="words"):
    interval = Interval(value=value, low=value - 0.02, high=value + 0.02)
    return ContrastResult(a="joint", b=b, difference=interval, p=0.2, p_holm=0.2, degrees_of_freedom=9.0,
                          probability_a_better=0.5, verdict=outcome, smallest_detectable=0.03,
                          seeds_to_settle=9)  # fmt: skip


def told(simple=None, today=None):
    return with_beside(VERDICT, today, simple, "accuracy", 0.01)


@pytest.mark.parametrize(
    ("outcome", "value", "headline", "clause"),
    [
        ("worse", -0.05, "words, a simple model without a checkpoint, beats joint.",
         "words (no checkpoint) beats joint by 5.0 [3.0, 7.0] points"),
        ("leads", -0.05, "words, a simple model without a checkpoint, leads joint.",
         "words (no checkpoint) leads joint by 5.0 [3.0, 7.0] points, not settled with so few runs"),
        ("equivalent", 0.003, "words, a simple model without a checkpoint, is equivalent to joint within the margin.",
         "joint and words (no checkpoint) are equivalent within the margin"),
        ("inconclusive", -0.02, "words, a simple model without a checkpoint, is not reliably worse than joint.",
         "joint and words (no checkpoint): no reliable difference"),
        ("inconclusive", 0.008, "words, a simple model without a checkpoint, is not reliably worse than joint.",
         "joint and words (no checkpoint): no reliable difference"),
    ],
)  # fmt: skip
def test_the_headline_and_a_detail_say_where_a_simple_model_does_as_well(outcome, value, headline, clause):
    found = told(contrast(outcome, value))
    assert found.sentence == f"A beats B. {headline}"
    assert found.details[0] == "first" and found.details[1].startswith(clause) and "not adjusted" in found.details[1]


def test_one_that_is_behind_by_more_than_the_margin_is_in_the_details_alone():
    found = told(contrast("inconclusive", 0.02))
    assert found.sentence == "A beats B." and len(found.details) == 2


@pytest.mark.parametrize("outcome", ["better", "leads"])
def test_one_that_is_beaten_is_not_mentioned(outcome):
    assert told(contrast(outcome, 0.05)) == VERDICT


def test_what_is_handed_back_does_not_replace_what_beats_it_today():
    found = told(today=contrast("worse", -0.05, "incumbent"))
    assert found.sentence.endswith("Keep what runs today: it beats joint.")
    assert found.details[1].startswith("the incumbent beats joint by 5.0 [3.0, 7.0] points: keep what runs today")
    assert found.handed_back_reason.endswith("no reason to replace what runs today, which beats it")
    behind = told(today=contrast("better", 0.05, "incumbent"))
    assert (behind.sentence, behind.handed_back_reason) == (VERDICT.sentence, VERDICT.handed_back_reason)
    assert "joint beats the incumbent by" in behind.details[1]
