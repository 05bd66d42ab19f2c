"""A whole small study: real tunings, merges and evaluations of tiny models."""

import json
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from small import SPLITS, TUNING, run, small_study, write_table
from tunemerge.errors import StoreError, UsageError
from tunemerge.findings import FindingsError
from tunemerge.results import Results
from tunemerge.study.export import export_arm
from tunemerge.study.run_folder import read_results
from tunemerge.tune.single import tune


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("study")
    study = small_study(folder, tiny_bert)
    return study, run(study)


def test_every_tuned_arm_spends_the_same(finished):
    _, results = finished
    assert results.budget.examples == 64
    for arm in results.arms:
        spent = arm.marginal.examples
        if arm.strategy in ("best_single", "joint_total"):
            assert spent > 64 and not arm.matched
        else:
            assert spent == (64 if arm.tuned else 0), arm.name
        assert spent == results.budget.spent_by_arm[arm.name]


def test_the_ledger_adds_up(finished):
    _, results = finished
    by_key = {s.key: s for s in results.steps}
    assert results.study_cost.examples == sum(s.cost.examples for s in results.steps)
    for arm in results.arms:
        own = [by_key[k] for k in arm.steps]
        assert arm.total is not None
        assert arm.total.train_flops * len(results.seeds) == pytest.approx(sum(s.cost.train_flops for s in own))
        assert arm.total.examples >= arm.marginal.examples


def test_both_orders_and_all_controls_are_there(finished):
    _, results = finished
    names = {a.name for a in results.arms}
    assert {
        f"{o}/{m}" for o in ("merge_then_tune", "tune_then_merge", "tune_merge_tune") for m in ("linear", "ties")
    } < names
    assert {"joint", "sequential", "base_probe", "best_single", "ensemble", "experts", "joint_total"} < names
    assert {"expert/a", "expert/b", "expert_tuned/a", "expert_tuned/b", "merge_only/linear"} < names
    assert results.unavailable == []


def test_pairs_of_orders_and_the_best_alternative_are_contrasted(finished):
    _, results = finished
    orders = [(c.a.split("/")[0], c.b.split("/")[0]) for c in results.contrasts]
    assert orders[:3] == [
        ("merge_then_tune", "tune_then_merge"),
        ("merge_then_tune", "tune_merge_tune"),
        ("tune_then_merge", "tune_merge_tune"),
    ]
    assert len(orders) == 4 and orders[3][1] in ("joint", "sequential", "expert_tuned")
    assert results.verdict.kind in ("leads", "inconclusive", "equivalent")  # two seeds settle nothing


def test_results_can_be_read_again_and_taken_by_pandas(finished):
    study, results = finished
    assert read_results(study.run_folder) == results
    table = pd.DataFrame(results.table())
    assert len(table) == 2 * len(results.arms)
    assert table["accuracy"].between(0, 1).all()


def test_the_model_handed_back_loads_and_answers(finished):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    study, results = finished
    folder = study.run_folder / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)("the food was great", return_tensors="pt")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model(**inputs).logits.shape == (1, 2)
    assert results.verdict.handed_back in (folder / "README.md").read_text()


def test_running_again_runs_nothing_and_changes_no_number(finished):
    study, results = finished
    again = run(study)
    assert all(s.cached for s in again.steps)
    volatile = {"finished", "steps"}
    assert again.model_dump(exclude=volatile) == results.model_dump(exclude=volatile)
    assert [s.digest for s in again.steps] == [s.digest for s in results.steps]


def test_another_merge_method_trains_only_what_follows_its_merges(finished, tiny_bert):
    study, results = finished
    more = small_study(study.folder, tiny_bert, methods=["linear", "ties", "task_arithmetic"])
    old = {s.key for s in results.steps}
    new = [s for s in more.plan().graph.steps if s.key not in old]
    assert {s.op for s in new} == {"search", "merge", "tune", "predict"}
    only_ttm = small_study(
        study.folder, tiny_bert, methods=["linear", "ties", "task_arithmetic"], strategies=["tune_then_merge"]
    )
    assert {s.op for s in only_ttm.plan().graph.steps if s.key not in old} == {"search", "merge", "predict"}


def test_test_labels_change_nothing_but_the_last_evaluation(tmp_path, tiny_bert):
    splits = ("adapt", "validation", "source", "test")
    for number, split in enumerate(splits):
        write_table(tmp_path / f"{split}.csv", SPLITS[split], number)
    tasks = {"a": {"files": {s: f"{s}.csv" for s in splits}}}
    options = dict(tasks=tasks, strategies=["merge_then_tune", "joint"], methods=["linear"], seeds=1)
    first = run(small_study(tmp_path, tiny_bert, **options))
    write_table(tmp_path / "test.csv", SPLITS["test"], 3, wrong=True)
    second = run(small_study(tmp_path, tiny_bert, **options))
    digests = {s.key: s.digest for s in first.steps}
    changed = [s for s in second.steps if digests.get(s.key) != s.digest]
    assert {s.label.split(":")[0] for s in changed} == {"predict a test"}
    assert second.verdict.handed_back == first.verdict.handed_back
    for one, two in zip(first.arms, second.arms, strict=True):
        assert two.test.value == pytest.approx(1 - one.test.value)
    # the test labels are other rows: this test set was opened by one plan each
    assert first.test_openings == second.test_openings == 1


def test_a_second_plan_on_the_same_test_rows_is_exploratory(finished, tiny_bert):
    study, _ = finished
    other = run(small_study(study.folder, tiny_bert, name="other", strategies=["joint"]))
    assert other.test_openings == 2
    assert "exploratory" in {f.code for f in other.findings}


def test_given_checkpoints_are_a_pool_of_unknown_cost(finished, tmp_path, tiny_bert):
    study, results = finished
    experts = {
        n: {"model": str(study.store.path(next(a for a in results.arms if a.name == f"expert/{n}").models["a"][0][0]))}
        for n in "ab"
    }
    experts["a"]["examples"] = 48
    given = small_study(
        study.folder,
        tiny_bert,
        name="given",
        pool=experts,
        strategies=["merge_then_tune", "expert", "joint", "joint_total"],
        seeds=1,
    )
    plan = given.plan()
    assert ("joint_total", "no source rows: the pool was made elsewhere") in plan.unavailable
    merges = [s for s in plan.graph.steps if s.op == "merge"]
    assert all("classifier." in s.params["average"] for s in merges)
    arms = {a.name: a for a in run(given).arms}
    assert arms["expert/a"].total_examples == 48 and arms["expert/a"].total is None
    assert arms["expert/b"].total_examples is None and arms["merge_then_tune/linear"].total_examples is None
    assert arms["joint"].total is not None


def test_retention_tasks_are_evaluated_only(tmp_path, tiny_bert):
    write_table(tmp_path / "old.csv", 60, 9)
    study = small_study(
        tmp_path,
        tiny_bert,
        tasks={
            "a": {"data": "a.csv", "splits": SPLITS},
            "old": {"data": "old.csv", "splits": {"test": 0.9}},
        },
        retention=["old"],
        strategies=["joint", "expert", "merge_then_tune"],
        methods=["linear"],
        seeds=1,
    )
    results = run(study)
    arm = next(a for a in results.arms if a.name == "merge_then_tune/linear" or a.strategy == "joint")
    assert set(arm.tasks) == {"a", "old"}
    assert arm.test.value == pytest.approx(arm.tasks["a"].score.value)
    tuned = next(a for a in results.arms if a.strategy == "merge_then_tune")
    before = next(a for a in results.arms if a.name == "expert/a").tasks["old"].score.value
    assert tuned.tasks["old"].forgetting == pytest.approx(before - tuned.tasks["old"].score.value)


def test_no_pool_and_no_source_makes_merge_then_tune_the_joint_arm(tmp_path, tiny_bert):
    splits = {k: v for k, v in SPLITS.items() if k != "source"}
    study = small_study(
        tmp_path, tiny_bert, tasks={n: {"data": f"{n}.csv", "splits": splits} for n in "ab"}, methods=["linear"]
    )
    plan = study.plan()
    assert ("merge_then_tune/linear", "the same graph as joint: reported as that arm") in plan.unavailable
    assert {"joint", "tune_then_merge/linear", "sequential"} < {a.name for a in plan.arms}


def faults(study) -> list[str]:
    with pytest.raises(FindingsError) as e:
        study.plan()
    assert not (study.workdir / ".tunemerge").exists() and not study.run_folder.exists()
    return [str(f) for f in e.value.findings]


def faulty(study, code: str) -> str:
    """All findings of this code."""
    return "\n".join(f for f in faults(study) if f"[{code}]" in f)


def test_all_faults_at_once_and_nothing_written(tmp_path, tiny_bert):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"\x10")
    study = small_study(
        tmp_path,
        tiny_bert,
        strategies=["merge_than_tune"],
        methods=["tias"],
        target="c",
        pool={"a": str(broken)},
        tasks={
            "a": {"data": "a.csv", "text": "txt", "splits": SPLITS},
            "b": {"data": "missing.csv", "splits": SPLITS},
        },
    )
    found = faults(study)
    text = "\n".join(found)
    parts = ["did you mean 'merge_then_tune'", "did you mean 'ties'", "no column 'txt'"]
    for part in (*parts, "missing.csv: no such file", "unknown task 'c'", "broken"):
        assert part in text, part


def test_a_label_that_training_lacks(tmp_path, tiny_bert):
    study = small_study(tmp_path, tiny_bert)
    for split in ("adapt", "validation", "test", "source"):
        write_table(tmp_path / f"{split}.csv", 20, 1)
    with (tmp_path / "test.csv").open("a") as f:
        f.write("so so,neutral\n")
    study = small_study(
        tmp_path, tiny_bert, tasks={"a": {"files": {s: f"{s}.csv" for s in ("adapt", "validation", "test", "source")}}}
    )
    assert "first 'neutral' in data row 21" in faulty(study, "label-not-in-training")


def test_one_class(tmp_path, tiny_bert):
    (tmp_path / "one.csv").write_text("text,label\n" + "".join(f"good {i},positive\n" for i in range(100)))
    study = small_study(
        tmp_path, tiny_bert, tasks={"a": {"data": "one.csv", "splits": {"adapt": 20, "validation": 20, "test": 20}}}
    )
    assert "all adapt rows have the label 'positive'" in faulty(study, "one-class")


def test_heads_and_what_they_share_are_said(tmp_path, tiny_bert):
    text = tmp_path / "b.csv"
    study = small_study(tmp_path, tiny_bert)
    text.write_text(text.read_text().replace("positive", "good"))
    said = {f.code: f.message for f in study.check()}
    assert said["several-heads"] == "2 heads on one merged body: a (2 labels); b (2 labels)"
    assert said["labels-overlap"].startswith("a and b both have 'negative'")


def test_a_budget_too_small(tmp_path, tiny_bert):
    assert "too few for sequential, tune_then_merge" in faulty(
        small_study(tmp_path, tiny_bert, budget={"steps": 1}), "budget-too-small"
    )


def test_results_json_is_plain_json(finished):
    study, _ = finished
    data = json.loads((Path(study.run_folder) / "results.json").read_text())
    assert data["format"] == 1
    assert Results.model_validate(data).name == "small"


def test_a_head_with_other_labels_is_refused_before_anything_runs(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 60, 5)
    text = (tmp_path / "rows.csv").read_text().replace("positive", "good").replace("negative", "bad")
    (tmp_path / "rows.csv").write_text(text)
    tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "expert", epochs=1, **TUNING)
    study = small_study(tmp_path, tiny_bert, pool={"a": str(tmp_path / "expert")})
    assert "labels bad, good, the study's are negative, positive" in faulty(study, "head-labels")


def test_evaluated_tasks_need_the_study_labels_too(tmp_path, tiny_bert):
    (tmp_path / "old.csv").write_text("text,label\n" + "".join(f"word {i},{'xy'[i % 2]}\n" for i in range(20)))
    tasks = {
        "a": {"data": "a.csv", "splits": SPLITS},
        "old": {"data": "old.csv", "splits": {"test": 0.9}},
    }
    study = small_study(tmp_path, tiny_bert, tasks=tasks, unseen=["old"])
    assert "tasks.old" in faulty(study, "label-not-in-training")


def test_two_tasks_on_the_same_rows_leak(tmp_path, tiny_bert):
    tasks = {n: {"data": "a.csv", "splits": SPLITS} for n in "ab"}
    study = small_study(tmp_path, tiny_bert, tasks=tasks)
    assert "test rows of a stand among the adapt rows of b" in faulty(study, "test-seen")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"methods": ["slerp"], "strategies": ["merge_only"], "pool": "three"}, "no-arm"),
        ({"strategies": []}, "no-arm"),
        ({"target": "a", "retention": ["a"]}, "two-roles"),
        ({"retention": ["a"], "unseen": ["b"]}, "no-task"),
        ({"base": "weights.safetensors"}, "no-such-model"),
        ({"pool_budget": {"steps": 1}, "budget": {"steps": 1}}, "budget-too-small"),
    ],
)
def test_studies_that_cannot_be_are_findings(tmp_path, tiny_bert, changes, code):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    if changes.get("pool") == "three":
        changes = {**changes, "pool": {n: str(tiny_bert) for n in ("x", "y", "z")}}
    changes = {"base": str(tiny_bert), **changes}
    assert faulty(small_study(tmp_path, changes.pop("base"), **changes), code)


@pytest.mark.parametrize("seeds", [0, [3, 3, 3], [-1], []])
def test_seeds_are_different_numbers(tmp_path, tiny_bert, seeds):
    with pytest.raises(ValidationError, match="seeds"):
        small_study(tmp_path, tiny_bert, seeds=seeds)


def test_an_output_folder_of_somebody_else_is_never_replaced(finished, tmp_path, tiny_bert):
    study, results = finished
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="was not made here"):
        export_arm(results, study.store, tmp_path / "mine")
    with pytest.raises(UsageError, match="was not made here"):
        tune(tiny_bert, study.folder / "a.csv", tmp_path / "mine", **TUNING)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    export_arm(results, study.store, tmp_path / "out")
    export_arm(results, study.store, tmp_path / "out", arm="joint", seed=1)
    assert json.loads((tmp_path / "out" / "tunemerge_export.json").read_text())["arm"] == "joint"


def test_arms_that_are_no_single_checkpoint_are_not_exported(finished, tmp_path):
    study, results = finished
    with pytest.raises(UsageError, match="ensemble of 2 models"):
        export_arm(results, study.store, tmp_path / "out", arm="ensemble")
    with pytest.raises(UsageError, match=r"say which with --task \(a, b\)"):
        export_arm(results, study.store, tmp_path / "out", arm="experts")
    export_arm(results, study.store, tmp_path / "out", arm="experts", task="b")


def test_all_predictions_lie_beside_the_results(finished):
    study, results = finished
    table = pd.read_parquet(study.run_folder / "predictions.parquet")
    mine = table[(table.arm == "joint") & (table.split == "test")]
    right = (mine.logit_1 > mine.logit_0).astype(int) == mine.target
    by_seed = right.groupby([mine.seed, mine.task]).mean().groupby("seed").mean()
    assert by_seed.tolist() == pytest.approx(next(a for a in results.arms if a.name == "joint").test_by_seed)


def test_a_damaged_prediction_is_found_and_made_again(tmp_path, tiny_bert):
    study = small_study(tmp_path, tiny_bert, strategies=["joint"], seeds=1)
    before = run(study)
    step = next(s for s in before.steps if s.label.startswith("predict a test"))
    file = study.store.path(step.key) / "predictions.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="run again"):
        run(study)
    assert run(study).arms == before.arms
