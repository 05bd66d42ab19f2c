"""The model handed back against the best simple model, and against what runs today: what the verdict says of it."""

import csv

import pytest

from corpus import sentences
from small import SPLITS, run, small_study
from tunemerge.report.markdown import render_markdown
from tunemerge.report.page import render_html
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


def test_a_study_of_values_tells_its_simple_model_with_cost_and_steps(tmp_path, tiny_bert):
    texts, labels = sentences(200, 0)
    with (tmp_path / "values.csv").open("w", newline="") as f:
        csv.writer(f).writerows(
            [
                ("text", "value"),
                *(
                    (t, (label == "positive") + i / 1000)
                    for i, (t, label) in enumerate(zip(texts, labels, strict=True))
                ),
            ]
        )
    tasks = {"v": {"kind": "text-regression", "data": "values.csv", "splits": SPLITS}}
    results = run(small_study(tmp_path, tiny_bert, tasks=tasks, strategies=["joint"], seeds=2))
    arms, steps = {a.name: a for a in results.arms}, {s.key: s for s in results.steps}
    simple = arms["tfidf_linear"]
    assert (results.simple.a, results.simple.b) == ("joint", "tfidf_linear")
    assert results.simple.difference.value == pytest.approx(arms["joint"].test.value - simple.test.value)
    assert "a simple model without a checkpoint" in results.verdict.sentence  # 64 examples teach the tiny model nothing
    assert simple.simple and not arms["joint"].simple
    assert {steps[key].op for key in simple.steps} == {"control"} and len(simple.steps) == 2 * 2
    assert simple.marginal.seconds == pytest.approx(sum(steps[k].cost.seconds for k in simple.steps) / 2) != 0
    for arm in results.arms:  # a score is traced to the steps whose predictions it comes from
        assert {split: len(keys) for split, keys in arm.predictions["v"].items()} == {"validation": 2, "test": 2}
        assert {steps[k].op for k in arm.predictions["v"]["test"]} <= {"predict", "control"}
        assert all(arm.name in steps[k].arms for k in arm.predictions["v"]["test"])
    told = "Against the best simple model by validation"
    assert told in render_markdown(results) and told in render_html(results)
