"""What flatters a result is found before anything is trained."""

import csv
import json
import re
import shutil

import pytest

from corpus import sentences
from small import SPLITS, TUNING, write_study, write_table
from tunemerge.data.seen import FILE, read_seen
from tunemerge.merge.recipe.documents import load_recipe
from tunemerge.merge.recipe.run import merge_recipe
from tunemerge.study.study import Study
from tunemerge.tune.single import tune


def findings(folder, base, **changes):
    study = {**write_study(folder, base), **changes}
    return lambda: Study.from_dict(study, folder, folder / "work").check()


def one(found, code):
    (finding,) = [f for f in found if f.code == code]
    return finding


def table(path, rows, **columns):
    with path.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["text", "label", *columns])
        writer.writerows([*row, *(values[i] for values in columns.values())] for i, row in enumerate(rows))


def rows_of(n, seed):
    return list(zip(*sentences(n, seed), strict=True))


def test_rows_that_differ_in_case_and_spaces_are_named(tmp_path, tiny_bert):
    check = findings(
        tmp_path, tiny_bert, tasks={"a": {"files": {s: f"{s}.csv" for s in ("adapt", "validation", "test")}}}
    )
    for number, split in enumerate(("adapt", "validation", "test")):
        table(tmp_path / f"{split}.csv", rows_of(60, number))
    text, label = rows_of(60, 0)[7]
    table(tmp_path / "test.csv", [*rows_of(60, 2), ("  " + text.upper(), label)])
    found = one(check(), "test-nearly-seen")
    assert (
        "1 tested rows of a stand among the adapt rows of a but for case and spaces, first data row 61" in found.message
    )
    assert text.upper()[:20] in found.message


def test_a_fold_is_held_against_its_own_run_alone(tmp_path, tiny_bert):
    tasks = {n: {"data": f"{n}.csv"} for n in "ab"}
    check = findings(tmp_path, tiny_bert, tasks=tasks, splits={"folds": 3, "source": 0.2}, seeds=1)
    assert not [f for f in check() if f.code.startswith("test-")]
    table(tmp_path / "b.csv", rows_of(200, 0))
    found = [f for f in check() if f.code == "test-seen"]
    assert {f.where.split(".")[-1] for f in found} == {"a", "b"}
    assert all(re.match(r"\d+ test rows of [ab] stand among the \w+ rows of [ab]$", f.message) for f in found)


def test_a_unit_in_two_given_files(tmp_path, tiny_bert):
    files = {s: f"{s}.csv" for s in ("adapt", "validation", "test")}
    check = findings(tmp_path, tiny_bert, tasks={"a": {"files": files, "unit": "patient"}})
    for number, split in enumerate(files):
        table(tmp_path / f"{split}.csv", rows_of(60, number), patient=[f"{split[0]}{i // 2}" for i in range(60)])
    assert not [f for f in check() if f.code == "unit-both-sides"]
    table(tmp_path / "test.csv", rows_of(60, 2), patient=["a3" if i == 5 else f"t{i}" for i in range(60)])
    found = one(check(), "unit-both-sides")
    assert found.severity == "error"
    assert "1 units (patient) are in both test.csv and adapt.csv, first 'a3' in data row 6 of test.csv" in found.message


def test_columns_that_give_the_label_away(tmp_path, tiny_bert):
    check = findings(tmp_path, tiny_bert)
    rows = sorted(rows_of(200, 0), key=lambda r: r[1])
    codes = ["x7" if label == "positive" else "q2" for _, label in rows]
    table(
        tmp_path / "a.csv", rows, number=[f"r{i:03d}" for i in range(200)], code=codes, site=[i % 3 for i in range(200)]
    )
    found = check()
    assert "column 'number' numbers its rows, and ranks the labels" in one(found, "id-predicts-label").message
    leaky = one(found, "leaky-column")
    assert "column 'code' alone ranks the labels with AUROC 1.000" in leaky.message and leaky.severity == "note"
    assert "does not read it" in leaky.message


def test_rows_of_deployment(tmp_path, tiny_bert):
    tasks = {n: {"data": f"{n}.csv", "splits": {**SPLITS, "adapt": 60}, "deployment": f"{n}_new.csv"} for n in "ab"}
    check = findings(tmp_path, tiny_bert, tasks=tasks)
    (tmp_path / "a_new.csv").write_text("\n".join(["text", *sentences(80, 9)[0]]) + "\n")
    (tmp_path / "b_new.csv").write_text("\n".join(["text", *(t + " per favore" for t in sentences(80, 9)[0])]) + "\n")
    found = check()
    assert "adapt rows and a_new.csv look alike (AUROC 0." in one(found, "deployment").message
    unlike = one(found, "unlike-deployment")
    assert unlike.severity == "warning" and "(AUROC 0.99" in unlike.message and "'favore'" in unlike.message
    (tmp_path / "a_new.csv").write_text("txt\nhallo\n")
    assert "a_new.csv has no column 'text'; the columns are: txt" in one(check(), "no-such-column").message
    tasks["b"] |= {"private": True, "labels": {"positive": "positive", "negative": "negative"}}
    assert "favore" not in one(check(), "unlike-deployment").message


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny_bert):
    """A model tuned on 200 sentences, with its record of rows."""
    folder = tmp_path_factory.mktemp("tuned")
    write_table(folder / "a.csv", 200, 0)
    tune(tiny_bert, folder / "a.csv", folder / "model", epochs=0.2, progress=lambda *told: None, **TUNING)
    return folder / "model"


def test_a_tuned_model_says_which_rows_it_has_seen_and_is_refused_where_they_are_tested(tmp_path, tiny_bert, tuned):
    seen = read_seen(tuned)
    assert seen and len(seen) == len(set(sentences(200, 0)[0]))
    assert not set(json.loads((tuned / FILE).read_text())["rows"]) & set(sentences(200, 0)[0])
    rows = {k: v for k, v in SPLITS.items() if k != "source"}
    tasks = {n: {"data": f"{n}.csv", "splits": rows} for n in "ab"}
    check = findings(tmp_path, tiny_bert, pool={"a": str(tuned), "b": str(tiny_bert)}, tasks=tasks)
    found = one(check(), "model-saw-test")
    assert found.severity == "error" and "pool.a" in found.where
    assert (
        "was tuned or chosen on 60 of the 60 tested rows of a, by its record of rows; first data row" in found.message
    )
    write_table(tmp_path / "a.csv", 200, 5)
    assert not [f for f in check() if f.code == "model-saw-test"]


def test_a_merge_has_seen_what_its_models_have_seen(tmp_path, tiny_bert, tuned):
    shutil.copytree(tuned, tmp_path / "twin")
    (tmp_path / "twin" / FILE).unlink()
    models = [{"model": str(m), "parameters": {"weight": 1}} for m in (tuned, tmp_path / "twin")]
    recipe = {"merge_method": "linear", "models": models}
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "dtype": "float32"}))
    merge_recipe(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "merged")
    assert read_seen(tmp_path / "merged") == read_seen(tuned)
