"""What a finished run says of its own tunings."""

import pytest

from small import TUNING, run, small_study

STUDY = {"strategies": ["merge_only", "joint"], "methods": ["linear"], "seeds": 2}


@pytest.mark.parametrize(("rate", "hardly"), [(1e-8, True), (3e-3, False)])
def test_a_pool_that_hardly_learned_is_a_warning(tmp_path, tiny_bert, rate, hardly):
    tuning = {**TUNING, "learning_rate": rate}
    results = run(small_study(tmp_path, tiny_bert, **STUDY, tuning=tuning, pool_budget={"epochs": 10}))
    found = [f for f in results.findings if f.code == "pool-hardly-learned"]
    assert len(found) == hardly
    for finding in found:
        assert finding.severity == "warning" and "raise pool_budget" in finding.remedy
        assert "a (log loss 0." in finding.message and "b (log loss 0." in finding.message
        assert "by the label shares alone 0.6" in finding.message
