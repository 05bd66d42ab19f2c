"""What a finished run says of its own tunings."""

import pandas as pd
import pytest

from corpus import sentences
from small import SPLITS, TUNING, run, small_study
from tunemerge.graph.cost import Cost
from tunemerge.results import ArmResult, CurvePoint, StepResult
from tunemerge.study.chance import at_chance
from tunemerge.study.hindsight import control_ahead
from tunemerge.study.ledger import line

STUDY = {"strategies": ["merge_only", "joint"], "methods": ["linear"], "seeds": 2}


@pytest.mark.parametrize(("rate", "hardly"), [(1e-8, True), (3e-3, False)])
def test_a_pool_at_chance_is_a_warning(tmp_path, tiny_bert, rate, hardly):
    tuning = {**TUNING, "learning_rate": rate}
    results = run(small_study(tmp_path, tiny_bert, **STUDY, tuning=tuning, pool_budget={"epochs": 10}))
    found = [f for f in results.findings if f.code == "pool-at-chance"]
    assert len(found) == hardly
    for finding in found:
        assert finding.severity == "warning" and "raise pool_budget" in finding.remedy
        assert "a (log loss 0." in finding.message and "b (log loss 0." in finding.message
        assert "chance 0.6" in finding.message


def told(plan, score):
    """The findings of a plan whose pool models all ended with a validation loss of 0.69 and this score."""
    point = CurvePoint(step=1, examples=8, train_loss=0.7, validation_loss=0.69, validation_score=score)
    steps = [
        StepResult(key=node.key, op="tune", label=name, seed=seed, inputs=[], arms=[], cost=line(Cost()),
                   cached=False, digest="d", curve=[point], chosen_step=1)
        for seed, setting in plan.settings.items()
        for name, node in setting.pool.items()
    ]  # fmt: skip
    return at_chance(plan, steps)


def test_a_pool_that_is_unsure_but_mostly_right_is_not_at_chance(tmp_path, tiny_bert):
    """Log loss 0.69 beside an accuracy of 76%, as in the demo."""
    plan = small_study(tmp_path, tiny_bert, **STUDY).plan()
    assert told(plan, 0.76) == []
    (finding,) = told(plan, 0.52)
    assert "accuracy 52%" in finding.message


def test_values_are_at_chance_where_the_mean_does_as_well(tmp_path, tiny_bert):
    for name in "ab":
        texts, _ = sentences(200, ord(name))
        values = pd.DataFrame({"text": texts, "value": [len(text) / 3 for text in texts]})
        values.to_csv(tmp_path / f"values_{name}.csv", index=False)
    tasks = {n: {"kind": "text-regression", "data": f"values_{n}.csv", "splits": SPLITS} for n in "ab"}
    plan = small_study(tmp_path, tiny_bert, **{**STUDY, "tasks": tasks}, metric="r2").plan()
    assert told(plan, 0.3) == []
    (finding,) = told(plan, -0.02)
    assert "a (R2 -0.02, chance 0), b (R2 -0.02, chance 0)" in finding.message


def test_a_pool_that_no_arm_uses_was_not_made(tmp_path, tiny_bert):
    results = run(small_study(tmp_path, tiny_bert, strategies=["joint"], seeds=1))
    assert [f.code for f in results.findings if f.code == "pool-at-chance"] == []


def test_a_simple_model_that_beats_the_one_handed_back_on_validation_is_told():
    def arms(simple):
        models = {"joint": {"a": [["k"]]}, "expert/a": {"a": [["leaf"]]}, "words": {"a": [[]]}}
        scores = {"joint": 1.64, "expert/a": 1.2, "words": simple}
        return [ArmResult.model_construct(name=n, models=m, validation=scores[n]) for n, m in models.items()]

    (found,) = control_ahead(arms(1.55), "joint", "rmse", -1.0)
    assert found.severity == "warning" and "better than joint (1.640): words (1.550)" in found.message
    assert control_ahead(arms(1.7), "joint", "rmse", -1.0) == [] == control_ahead(arms(1.55), None, "rmse", -1.0)
    assert control_ahead(arms(1.55), "joint", "r2", 1.0) == []
