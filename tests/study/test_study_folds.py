"""Cross-validated studies, and studies split by time, from the study file to the report."""

import csv

import pandas as pd
import pytest

from corpus import sentences
from small import TUNING, run, write_study
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.study.study import Study

ORDERS = ["merge_then_tune", "tune_then_merge", "joint"]


def study(folder, base, **changes):
    tasks = {n: {"data": f"{n}.csv"} for n in "ab"}
    content = {**write_study(folder, base), "tasks": tasks, "methods": ["linear"], "strategies": ORDERS, **changes}
    del content["seeds"]
    content |= {k: v for k, v in changes.items() if k == "seeds"}
    return Study.from_dict({k: v for k, v in content.items() if v is not None}, folder, folder / "work")


def dated(folder, name, n, unit=None, start="2020-01-01"):
    """A CSV of n sentences, one a day."""
    texts, labels = sentences(n, ord(name))
    days = pd.date_range(start, periods=n).strftime("%Y-%m-%d")
    with (folder / f"{name}.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["text", "label", "day", "person"])
        writer.writerows(zip(texts, labels, days, [unit(i) if unit else i for i in range(n)], strict=True))


@pytest.fixture(scope="module")
def folded(tmp_path_factory, tiny_bert):
    """A study of 3 folds with a test set that stays out of them."""
    folder = tmp_path_factory.mktemp("folded")
    splits = {"folds": 3, "test": 0.2, "source": 0.2}
    quick = {"tuning": {**TUNING, "evaluations": 1}, "candidates": 1, "strategies": ORDERS[:2]}
    made = study(folder, tiny_bert, splits=splits, **quick)
    return made, run(made)


def test_every_arm_runs_on_the_same_folds_and_the_test_rows_stay_out(folded):
    made, _ = folded
    table = pd.read_parquet(made.run_folder / "predictions.parquet")
    assert set(table["split"]) == {"validation", "held_out", "test"}
    for _, own in table[table["task"] == "a"].groupby("arm"):
        held = own[own["split"] == "held_out"]
        test, validation = own[own["split"] == "test"], own[own["split"] == "validation"]
        assert not held["unit"].duplicated().any()
        assert not set(held["unit"]) & set(test["unit"]) and len(set(held["unit"]) | set(test["unit"])) == 200
        for fold, rows in held.groupby("seed"):
            assert not set(rows["unit"]) & set(validation[validation["seed"] == fold]["unit"])
    by_arm = table[table["split"] == "held_out"].groupby(["arm", "seed", "task"])["unit"].agg(lambda u: tuple(u))
    assert by_arm.groupby(["seed", "task"]).nunique().max() == 1


def test_the_verdict_is_computed_over_folds_and_says_so(folded):
    made, results = folded
    assert results.seeds == [0, 1, 2] and results.splits.folds == 3
    assert results.splits.overlap == pytest.approx(1 / 2, abs=0.01)
    assert {c.degrees_of_freedom for c in results.contrasts} == {2.0}
    assert all(a.stayed_out and a.stayed_out.low <= a.stayed_out.value <= a.stayed_out.high for a in results.arms)
    text = (made.run_folder / "report.md").read_text()
    assert "Split: 3 folds, stratified by label; n_test/n_train 0.50" in text and "Nadeau and Bengio" in text
    assert "stayed out of all folds" in text and "Repetitions to settle" in text and "seed 0" not in text
    page = (made.run_folder / "report.html").read_text()
    assert "fold 1 of 3" in page and "corrected resampled t test" in page


def test_a_second_repetition_reuses_the_first(folded, tmp_path):
    made, _ = folded
    plan = made.plan()
    again = Study.from_dict({**made.config.model_dump(exclude_none=True), "seeds": 2}, made.folder, made.workdir).plan()
    assert len(again.settings) == 6 and {s.key for s in plan.graph.steps} < {s.key for s in again.graph.steps}


def parts(made):
    return made.plan().rows


def texts(rows, task, run_number, split):
    return set(rows.tables[rows.tasks[task].parts[run_number][split].digest]["text"])


def test_units_are_never_on_both_sides_of_a_fold(tmp_path, tiny_bert):
    for name in "ab":
        dated(tmp_path, name, 200, unit=lambda i: f"p{i % 40}")
    made = study(tmp_path, tiny_bert, tasks={n: {"data": f"{n}.csv", "unit": "person"} for n in "ab"},
                 splits={"folds": 4, "source": 0.2})  # fmt: skip
    for n in "ab":
        dated(tmp_path, n, 200, unit=lambda i: f"p{i % 40}")
    rows = parts(made)
    for run_number in range(4):
        own = {s: set(rows.tables[leaf.digest]["unit"]) for s, leaf in rows.tasks["a"].parts[run_number].items()}
        assert sum(map(len, own.values())) == len(set().union(*own.values())) == 40
    assert rows.tasks["a"].units["held_out"] == 10 and rows.tasks["a"].sizes["held_out"] == 50


def test_walk_forward_with_one_calendar_cut_for_both_tasks(tmp_path, tiny_bert):
    gaps = {"horizon": "5d", "embargo": "1d", "source": 0.4, "validation": 0.2}
    made = study(tmp_path, tiny_bert, splits={"by": "time", "column": "day", "folds": 3, **gaps})
    dated(tmp_path, "a", 240)
    dated(tmp_path, "b", 220, start="2020-01-06")
    rows = made.plan().rows
    when = {n: dict(zip((t := pd.read_csv(tmp_path / f"{n}.csv"))["text"], t["day"], strict=True)) for n in "ab"}
    for run_number in range(3):
        days = {
            s: sorted(when[n][x] for n in "ab" for x in texts(rows, n, run_number, s))
            for s in ("source", "adapt", "validation", "held_out")
        }
        assert days["source"][-1] < days["adapt"][0]
        for earlier, later in (("adapt", "validation"), ("validation", "held_out")):
            assert pd.Timestamp(days[earlier][-1]) + pd.Timedelta("6d") < pd.Timestamp(days[later][0])


@pytest.mark.parametrize(
    ("splits", "code", "said"),
    [
        ({"by": "time", "column": "dya"}, "no-such-column", "no column 'dya' (for splits.column)"),
        ({"by": "time", "column": "day", "horizon": "soon"}, "bad-value", "splits.horizon: 'soon' is not a length"),
        ({"by": "time", "column": "day", "folds": 2, "horizon": "90d"}, "empty-split", "validation split has no rows"),
        ({"by": "time", "column": "day", "source": 0.1, "horizon": "50d", "folds": 3}, "empty-split", "source split"),
        ({"folds": 5, "adapt": 0.9}, "bad-data", "splits ask for 200 rows"),
        ({"folds": 5, "build": "gone.py:make"}, "bad-data", "gone.py: no such file"),
    ],
)
def test_what_is_wrong_is_a_finding_before_anything_runs(tmp_path, tiny_bert, splits, code, said):
    made = study(tmp_path, tiny_bert, splits=splits)
    for name in "ab":
        dated(tmp_path, name, 200)
    found = [f for f in made.check() if f.severity == "error"]
    assert any(f.code == code and said in f.message for f in found), found
    assert not (tmp_path / "work").exists()


def test_a_date_that_is_none_is_named(tmp_path, tiny_bert):
    made = study(tmp_path, tiny_bert, splits={"by": "time", "column": "day"})
    for name in "ab":
        dated(tmp_path, name, 200)
    lines = (tmp_path / "b.csv").read_text().replace("2020-01-05", "5 of May?")
    (tmp_path / "b.csv").write_text(lines)
    (found,) = [f for f in made.check() if f.severity == "error"]
    assert "1 values of 'day' are no dates, first '5 of May?' in data row 5" in found.message
    assert "b.csv" in found.message


def test_splits_of_a_task_do_not_go_with_one_calendar_cut(tmp_path, tiny_bert):
    tasks = {"a": {"data": "a.csv", "splits": {"test": 0.5, "adapt": 20}}, "b": {"data": "b.csv"}}
    made = study(tmp_path, tiny_bert, tasks=tasks, splits={"by": "time", "column": "day"})
    for name in "ab":
        dated(tmp_path, name, 200)
    with pytest.raises(FindingsError, match="one calendar cut holds for all tasks: a can't have `splits` of its own"):
        made.plan()


def test_data_without_any_splits(tmp_path, tiny_bert):
    with pytest.raises(UsageError, match="`data` needs `splits`"):
        study(tmp_path, tiny_bert).plan()


def test_few_folds_claim_nothing(tmp_path, tiny_bert):
    made = study(tmp_path, tiny_bert, splits={"folds": 3, "source": 0.2})
    assert any(f.code == "few-seeds" and "with 3 folds no win is claimed" in f.message for f in made.check())
