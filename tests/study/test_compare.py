"""Two runs side by side: differences as the statistics give them, and refusals with their reason."""

import json
import shutil

import pytest

from small import SPLITS, run, small_study
from tunemerge.cli.comparing import compare_and_show
from tunemerge.findings import FindingsError
from tunemerge.study.compare import compare_runs

ORDERS = {"strategies": ["merge_then_tune", "joint"], "methods": ["linear"], "candidates": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_bert):
    """Two studies that differ in the budget and in one arm; the second has one seed more."""
    folder = tmp_path_factory.mktemp("compared")
    first = small_study(folder, tiny_bert, **ORDERS, seeds=2)
    second = small_study(
        folder, tiny_bert, **{**ORDERS, "strategies": ["joint", "expert"]}, seeds=3, name="longer", budget={"steps": 16}
    )
    results = run(first), run(second)
    return first.run_folder, second.run_folder, results


def test_paired_differences_over_common_seeds(runs):
    a, b, (first, second) = runs
    found = compare_runs(a, b)
    assert found.seeds == (0, 1) and found.tasks == ("a", "b") and found.metric == "accuracy"
    (joint,) = [p for p in found.pairs if p.arm == p.other == "joint"]
    one, two = (next(x for x in r.arms if x.name == "joint").test_by_seed[:2] for r in (first, second))
    assert joint.difference.value == pytest.approx(sum(two) / 2 - sum(one) / 2)
    assert joint.difference.low <= joint.difference.value <= joint.difference.high
    assert {(p.arm, p.other) for p in found.pairs if p.difference is None} >= {
        ("merge_then_tune/linear", ""),
        ("", "expert/a"),
    }
    assert found.settings["budget"] == ({"examples": 64}, {"steps": 16}) and "name" not in found.settings
    assert found.handed_back.arm == first.verdict.handed_back
    assert [f.code for f in found.findings] == ["few-common-seeds"]


def test_a_run_against_itself_differs_by_nothing(runs, capsys):
    a, _, _ = runs
    found = compare_runs(a, a)
    assert all(p.difference.value == 0 for p in found.pairs) and not found.settings
    compare_and_show(a, a)
    assert "the study files have the same settings" in capsys.readouterr().out


def test_other_test_rows_metrics_and_tasks_are_refused_at_once(runs, tmp_path, tiny_bert):
    a, b, _ = runs
    other = small_study(
        tmp_path,
        tiny_bert,
        **{**ORDERS, "strategies": ["expert"]},
        seeds=1,
        tasks={n: {"data": f"{n}.csv", "splits": {**SPLITS, "test": 50}} for n in "ab"},
    )
    run(other)
    with pytest.raises(FindingsError, match="a: the test rows differ: 60 and 50 rows"):
        compare_runs(a, other.run_folder)
    changed = tmp_path / "changed"
    shutil.copytree(b, changed)
    results = json.loads((changed / "results.json").read_text())
    results["metric"] = "macro_f1"
    results["tasks"][0]["labels"] = ["no", "yes"]
    (changed / "results.json").write_text(json.dumps(results))
    with pytest.raises(FindingsError) as caught:
        compare_runs(a, changed)
    assert [f.code for f in caught.value.findings] == ["not-comparable"] * 2
    assert "accuracy, the other by macro_f1" in str(caught.value) and "the labels differ" in str(caught.value)


def test_folds_are_compared_by_what_each_run_held_out(runs, tmp_path, tiny_bert):
    a, _, _ = runs
    changes = {"tasks": {n: {"data": f"{n}.csv"} for n in "ab"}, "splits": {"folds": 2, "source": 0.3}}
    folded = small_study(tmp_path, tiny_bert, **{**ORDERS, "strategies": ["expert", "merge_only"]}, seeds=1, **changes)
    run(folded)
    with pytest.raises(FindingsError, match=r"the folds differ: none; Folds\(number=2"):
        compare_runs(a, folded.run_folder)
    found = compare_runs(folded.run_folder, folded.run_folder)
    assert found.seeds == (0, 1) and all(p.difference.value == 0 for p in found.pairs)
