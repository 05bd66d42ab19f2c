"""`tuning_search`: every tuning of every arm is a search with the same number of trials, all paid."""

import pytest
import yaml

from small import TUNING, run, small_study, write_study
from tunemerge.findings import FindingsError
from tunemerge.report.markdown import render_markdown
from tunemerge.study.study import Study

RATES = {"low": 1e-9, "high": 3e-3, "log": True}
SEARCH = {"trials": 3, "learning_rate": RATES, "weight_decay": [0, 0.01]}
STUDY = {"strategies": ["tune_then_merge", "joint"], "methods": ["linear"], "candidates": 1, "seeds": 1}


@pytest.fixture(scope="module")
def searched(tmp_path_factory, tiny_bert):
    study = small_study(
        tmp_path_factory.mktemp("study"), tiny_bert, tuning_search=SEARCH, budget={"examples": 96}, **STUDY
    )
    return study, run(study)


def test_every_tuned_arm_spends_the_budget_once_a_trial(searched):
    study, results = searched
    assert results.budget.search_trials == 3
    for arm in (a for a in results.arms if not a.simple):
        assert arm.matched and arm.marginal.examples == 3 * 96
        assert arm.marginal.trials >= 3
    assert all(study.plan().examples(arm, 0) == 3 * 96 for arm in study.plan().arms if arm.models)
    pool = [s for s in results.steps if s.op == "tune" and s.label.endswith("source")]
    assert len(pool) == 2 and not any(s.tuning_trials for s in pool)
    (finding,) = [f for f in results.findings if f.code == "tuning-search"]
    assert "3 x 96 examples" in finding.message and "trials of settings" in render_markdown(results)


def test_the_trial_with_the_lowest_validation_loss_is_the_model(searched):
    _, results = searched
    steps = [s for s in results.steps if s.tuning_trials]
    assert len(steps) == 3  # two experts, and the joint model
    for step in steps:
        (chosen,) = [t for t in step.tuning_trials if t.chosen]
        assert chosen.loss == min(t.loss for t in step.tuning_trials)
        assert chosen.loss == next(p.validation_loss for p in step.curve if p.step == step.chosen_step)
        assert all(1e-9 <= t.parameters["learning_rate"] <= 3e-3 for t in step.tuning_trials)
    drawn = [[t.parameters for t in s.tuning_trials[:2]] for s in steps]
    assert drawn[0] == drawn[1] == drawn[2]  # what is drawn at random is the same for every arm of a seed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": 0}, "expected at least 1, found 0"),
        ({"learning_rate": {"low": 1e-3, "high": 1e-5}}, "expected low < high, found low 0.001 and high 1e-05"),
        ({"learning_rate": {"low": 0, "high": 1e-5, "log": True}}, "log needs low above 0, found 0"),
        ({"learning_rat": RATES}, "did you mean 'learning_rate'"),
        ({"learning_rate": {"low": 1e-4, "hig": 1e-3}}, "did you mean 'high'"),
        ({"learning_rate": "fast"}, "tuning_search.learning_rate: expected keys with values, found 'fast'"),
        ({"dropout": [0, 1.5]}, "expected less than 1, found 1.5"),
        ({"schedule": ["linear", "cosin"]}, "did you mean 'cosine'"),
        ({"learning_rate": None, "weight_decay": None}, "nothing to search"),
    ],
)
def test_what_can_not_be_searched_is_a_finding(tmp_path, tiny_bert, changes, said):
    search = {k: v for k, v in {**SEARCH, **changes}.items() if v is not None}
    assert said in found(tmp_path, tiny_bert, tuning_search=search)


def test_two_ways_of_trying_rates_and_pruning_without_rungs_are_refused(tmp_path, tiny_bert):
    said = found(tmp_path, tiny_bert, tuning_search=SEARCH, learning_rates=[1e-4, 1e-3])
    assert "learning_rates and tuning_search both try settings" in said
    once = {**TUNING, "evaluations": 1}
    said = found(tmp_path, tiny_bert, tuning_search={**SEARCH, "pruning": "asha"}, tuning=once)
    assert "raise tuning.evaluations" in said


def found(folder, base, **changes):
    """The errors of a study file, as a person reads them."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(write_study(folder, base, **{**STUDY, **changes})))
    with pytest.raises(FindingsError) as e:
        Study.from_yaml(file).plan()
    return str(e.value)


def test_without_optuna_a_finding_says_how_to_get_it(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setattr("tunemerge.tune.search.find_spec", lambda name: None)
    with pytest.raises(FindingsError, match=r"tunemerge\[search\]"):
        small_study(tmp_path, tiny_bert, tuning_search=SEARCH, budget={"examples": 64}, **STUDY).plan()
