"""`learning_rates`: every tuning of every arm is tried at each rate, and all of it is paid."""

from collections import Counter

import pytest

from small import TUNING, run, small_study
from tunemerge.findings import FindingsError
from tunemerge.report.markdown import render_markdown

IDLE, GOOD = 1e-9, 3e-3
ORDERS = ["merge_then_tune", "tune_then_merge", "tune_merge_tune", "joint"]
STUDY = {"strategies": ORDERS, "methods": ["linear"], "candidates": 1, "seeds": 2, "budget": {"examples": 384}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def tried(folder, tiny_bert):
    return run(small_study(folder, tiny_bert, learning_rates=[IDLE, GOOD], **STUDY))


def test_every_tuned_arm_spends_the_budget_once_a_rate(tried):
    assert tried.budget.examples == 384 and tried.budget.learning_rates == [IDLE, GOOD]
    for arm in (a for a in tried.arms if not a.simple):
        assert arm.matched and arm.marginal.examples == tried.budget.spent_by_arm[arm.name] == 2 * 384
    pool = [s for s in tried.steps if s.op == "tune" and s.label.endswith("source")]
    assert len(pool) == 2 * 2  # two tasks, two seeds: the pool is no arm's, and made at one rate


def test_the_rate_that_learns_is_chosen_and_the_report_says_how_often(tried):
    for arm in (a for a in tried.arms if not a.simple):
        counts = arm.chosen["learning_rate"]
        tunings = {"tune_then_merge": 2, "tune_merge_tune": 3}.get(arm.strategy, 1) * 2
        assert list(counts) == ["1e-09", "0.003"] and sum(counts.values()) == tunings
        assert counts["0.003"] > tunings / 2, (arm.name, counts)
    text = render_markdown(tried)
    assert "× 2 learning-rate trials" in text and "learning rate 0.003 2×" in text


def test_where_the_grid_ends_too_early_a_finding_says_so(tried):
    (finding,) = [f for f in tried.findings if f.code == "rate-at-edge"]
    assert "the largest tried (0.003)" in finding.message and "joint" in finding.message
    assert any(f.code == "learning-rate-trials" and "2 x 384 examples" in f.message for f in tried.findings)


def test_adding_a_rate_that_never_wins_runs_its_own_trials_alone(folder, tiny_bert, tried):
    """Those of first tunings; what follows a choice reads the same bytes as before."""
    arms = [name for name in ORDERS if name != "tune_merge_tune"]  # whose first, short tunings end as they began
    more = run(
        small_study(folder, tiny_bert, learning_rates=[IDLE, GOOD, 1e-10], name="more", **{**STUDY, "strategies": arms})
    )
    tuned = [arm for arm in more.arms if not arm.simple]
    assert all(arm.chosen["learning_rate"]["1e-10"] == 0 for arm in tuned)  # what this test is about
    ran = Counter(s.op for s in more.steps if not s.cached)
    tunings = 1 + 2 + 1  # of the three arms, a seed
    assert ran["tune"] == tunings * 2
    assert ran["merge"] == ran["search"] == 0
    before = {arm.name: arm.test_by_seed for arm in tried.arms}
    assert all(arm.test_by_seed == before[arm.name] for arm in more.arms)


def test_with_one_rate_the_verdict_names_it(folder, tiny_bert):
    results = run(small_study(folder, tiny_bert, name="one", **{**STUDY, "strategies": ORDERS[:2]}))
    said = " ".join([results.verdict.sentence, *results.verdict.details])
    assert "at this learning rate (0.003)" in said and results.budget.learning_rates == [TUNING["learning_rate"]]


def test_rates_that_are_none_are_refused(tmp_path, tiny_bert):
    for rates in ([1e-3, 1e-3], [0.0], [float("inf")]):
        with pytest.raises((FindingsError, ValueError)):
            small_study(tmp_path, tiny_bert, learning_rates=rates)
