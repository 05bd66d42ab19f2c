"""Private tasks: no step reads the rows of two of them, and nothing that is written shows one of their values."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from corpus import sentences
from small import SPLITS, run, small_study
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.graph.plan import Plan
from tunemerge.graph.private import pooling, refuse_pooling
from tunemerge.graph.step import Leaf, Step
from tunemerge.study.export import export_arm

SECRET = "zyxomarker"
TASK = {"task": {"kind": "text-classification", "labels": ["a", "b"], "options": {}}, "metric": "accuracy"}
LABELS = {"negative": "negative", "positive": "positive"}
POOLED = {"joint", "joint_total", "base_probe", "merge_then_tune", "tune_merge_tune", "tfidf_linear"}


def write_private(path: Path, n: int, seed: int) -> None:
    """Sentences with a secret in every text and in every unit."""
    texts, labels = sentences(n, seed)
    with path.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["patient", "text", "label"])
        for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
            writer.writerow([f"{SECRET}-{i}", f"{text} {SECRET}", label])


def private_study(folder: Path, base: Path, **changes):
    for number, name in enumerate("ab"):
        write_private(folder / f"private_{name}.csv", 200, number)
    tasks = {
        n: {"data": f"private_{n}.csv", "splits": SPLITS, "unit": "patient", "private": True, "labels": LABELS}
        for n in "ab"
    }
    return small_study(folder, base, **{"tasks": tasks, "methods": ["linear"], "name": "private", **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    study = private_study(tmp_path_factory.mktemp("private"), tiny_bert, ceilings=True)
    return study, run(study)


def test_arms_that_would_pool_private_rows_are_listed_as_unavailable(tmp_path, tiny_bert):
    plan = private_study(tmp_path, tiny_bert).plan()
    reasons = {name.split("/")[0]: why for name, why in plan.unavailable}
    assert set(reasons) == POOLED
    assert reasons.pop("tfidf_linear") == "it would pool the rows of private tasks"
    assert set(reasons.values()) == {"one step would read the rows of several private tasks: a, b"}
    have = {arm.strategy.name for arm in plan.arms}
    assert {"tune_then_merge", "merge_tune_merge", "sequential", "merge_only", "best_single", "ensemble"} <= have
    assert not any(arm.ceiling for arm in plan.arms) and pooling(plan.graph) == []
    assert "question-open" in {f.code for f in plan.findings}


def test_one_private_task_beside_an_open_one_pools_nothing(tmp_path, tiny_bert):
    study = private_study(tmp_path, tiny_bert)
    tasks = study.config.model_dump(exclude_unset=True)["tasks"]
    tasks["b"]["private"] = False
    plan = private_study(tmp_path, tiny_bert, tasks=tasks).plan()
    assert not plan.unavailable and "merge_tune_merge" not in {a.strategy.name for a in plan.arms}


def test_ceilings_are_marked_and_no_verdict_looks_at_them(finished):
    study, results = finished
    ceilings = {a.name for a in results.arms if a.ceiling}
    assert {name.split("/")[0] for name in ceilings} == POOLED
    assert not any(a.handed_back for a in results.arms if a.ceiling)
    assert not ceilings & {name for c in results.contrasts for name in (c.a, c.b)}
    assert not results.unavailable and all(t.private for t in results.tasks)
    with pytest.raises(UsageError, match="unattainable ceiling"):
        export_arm(results, study.store, study.workdir / "out", arm="joint")
    text = (study.run_folder / "report.md").read_text()
    said = "An unattainable ceiling pools the rows of private tasks"
    assert said in text and text.count("unattainable ceiling") == len(ceilings) + 1


def test_scores_task_by_task_choose_what_one_search_over_all_rows_would(finished, tiny_bert):
    study, results = finished
    open_tasks = study.config.model_dump(exclude_unset=True)["tasks"]
    for task in open_tasks.values():
        task["private"] = False
    strategies = ["tune_then_merge", "best_single"]
    other = run(private_study(study.folder, tiny_bert, tasks=open_tasks, name="open", strategies=strategies))
    chosen = {s.label: s.trials for s in other.steps if s.op in ("search", "pick")}
    private = {s.label: [] for s in results.steps if s.op in ("choose", "pick")}
    for step in results.steps:
        if step.op in ("choose", "pick"):
            private[step.label].append(step.trials)
    assert chosen and all(trials in private[label] for label, trials in chosen.items())
    private = next(a for a in results.arms if a.name == "tune_then_merge/linear")
    assert next(a for a in other.arms if a.name == private.name).test == private.test


def test_nothing_that_is_written_shows_a_private_value(finished):
    study, _ = finished
    files = [f for f in study.run_folder.rglob("*") if f.is_file()]
    assert {"results.json", "report.html", "report.md", "predictions.parquet"} <= {f.name for f in files}
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file


def test_findings_about_private_rows_show_counts_alone(tmp_path, tiny_bert):
    study = private_study(tmp_path, tiny_bert)
    with (tmp_path / "private_a.csv").open("a") as f:
        f.write(f"{SECRET}-x,{SECRET} text,{SECRET}-label\n{SECRET}-y,,positive\n")
    (tmp_path / "private_b.csv").write_text(f"{SECRET},headless,positive\n" * 4)
    with pytest.raises(FindingsError) as e:
        study.plan()
    text = str(e.value)
    assert SECRET not in text
    assert "label values that `labels` does not name: a value" in text
    assert "1 rows lack a text, a label or a unit (data rows 202)" in text
    assert "no column 'patient' (for unit); the table has" in text


def test_private_tasks_declare_their_labels(tmp_path, tiny_bert):
    study = private_study(tmp_path, tiny_bert)
    tasks = study.config.model_dump(exclude_unset=True)["tasks"]
    del tasks["a"]["labels"]
    with pytest.raises(FindingsError, match=r"private-labels\] tasks.a"):
        private_study(tmp_path, tiny_bert, tasks=tasks).plan()


def test_what_is_fitted_meets_as_sums_of_each_private_task(tmp_path, tiny_bert):
    write_private_values(tmp_path)
    study = value_study(tmp_path, tiny_bert)
    plan = study.plan()
    summaries = [s for s in plan.graph.steps if s.op == "summarise"]
    assert [{n.private for n in s.parents()} for s in summaries[:2]] == [{"a"}, {"b"}] and len(summaries) == 4
    (fit, *_) = [s for s in plan.graph.steps if s.op == "fit"]
    assert {s.op for s in fit.parents()} == {"summarise"} and pooling(plan.graph) == []
    assert {name.split("/")[0] for name, _ in plan.unavailable} >= {"joint", "merge_then_tune"}
    results = run(study)
    fitted = json.loads(study.store.read(study.store.get(fit.key), "tunemerge_fitted.json"))
    seed = study.plan().rows
    values = [
        v
        for n in "ab"
        for split in ("source", "adapt")
        for v in seed.tables[seed.tasks[n].parts[study.config.seed_list[0]][split].digest]["value"]
    ]
    assert fitted["mean"] == pytest.approx(np.mean(values)) and fitted["std"] == pytest.approx(np.std(values))
    assert results.verdict.handed_back and results.flipped == []
    assert results.incumbent.test.value == pytest.approx(1.0)  # it answers with the truth itself
    assert results.incumbent.against.difference.value < 0


def test_findings_about_private_values_show_none(tmp_path, tiny_bert):
    write_private_values(tmp_path, constant=4711.25)
    with pytest.raises(FindingsError) as e:
        value_study(tmp_path, tiny_bert).plan()
    assert "rows have the same value" in str(e.value) and "4711" not in str(e.value)


def write_private_values(folder: Path, constant: float | None = None) -> None:
    """Two tables of sentences with a number that their label tells, and today's answers, which are the truth."""
    for number, name in enumerate("ab"):
        texts, labels = sentences(200, number)
        pairs = enumerate(zip(texts, labels, strict=True))
        rows = [(t, 10 * number + (label == "positive") + i / 1000) for i, (t, label) in pairs]
        for file, lines in (
            (f"values_{name}.csv", [("text", "value"), *((t, v if constant is None else constant) for t, v in rows)]),
            (f"today_{name}.csv", [("row", "prediction"), *((i + 1, v) for i, (_, v) in enumerate(rows))]),
        ):
            with (folder / file).open("w", newline="") as f:
                csv.writer(f).writerows(lines)


def value_study(folder: Path, base: Path):
    task = {"kind": "text-regression", "splits": SPLITS, "private": True}
    return small_study(
        folder,
        base,
        tasks={n: {**task, "data": f"values_{n}.csv"} for n in "ab"},
        incumbent={"predictions": {n: f"today_{n}.csv" for n in "ab"}},
        strategies=["tune_then_merge", "merge_then_tune", "merge_only", "joint"],
        methods=["linear"],
        metric="r2",
        name="values",
    )


def leaf(name: str, private: str = "") -> Leaf:
    return Leaf(f"digest-{name}", Path(name), "rows", name, private)


def test_the_planner_refuses_steps_that_pool_however_they_come_by_the_rows():
    a, b, copy_of_b = leaf("a", "a"), leaf("b", "b"), leaf("b")
    model = leaf("model")
    direct = Step("tune", TASK, {"model": (model,), "train": (a, b)}, "direct")
    copied = Step("tune", {**TASK, "seed": 1}, {"model": (model,), "train": (a, copy_of_b)}, "copied")
    predictions = tuple(Step("predict", TASK, {"models": (model,), "rows": (rows,)}, "p") for rows in (a, b))
    through = Step("select", TASK, {"predictions": predictions}, "through")
    one_by_one = Step("tune", TASK, {"model": (Step("tune", TASK, {"train": (a,)}, "first"),), "train": (b,)}, "second")
    known = Step("predict", TASK, {"models": (model,), "rows": (b,)}, "b is private")
    found = pooling(Plan.of([direct, copied, through, one_by_one, known]))
    assert [(s.label, names) for s, names in found] == [
        ("direct", ("a", "b")), ("copied", ("a", "b")), ("through", ("a", "b")),
    ]  # fmt: skip
    with pytest.raises(FindingsError, match="private tasks 'a' and 'b'"):
        refuse_pooling(Plan.of([direct]))
    refuse_pooling(Plan.of([one_by_one, known]))
