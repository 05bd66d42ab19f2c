"""Studies of tables: what is inferred and found, how models read their columns, what private hospitals may do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from small import run
from tunemerge.checkpoint.preprocessing import preprocessing_findings
from tunemerge.evaluate.single import evaluate
from tunemerge.findings import FindingsError
from tunemerge.graph.private import pooling
from tunemerge.study.chance import _of_ranks
from tunemerge.study.study import Study
from tunemerge.tasks.fitted import read_fitted, write_fitted


def write_site(path: Path, n: int, seed: int, **columns) -> None:
    rng = np.random.default_rng(seed)
    age, sex = rng.normal(50, 10, n).round(1), rng.choice(["f", "m"], n)
    ill = (age - 50) / 10 + (sex == "m") + rng.normal(0, 0.5, n) > 0.5
    table = pd.DataFrame({"id": range(n), "age": age, "sex": sex, "ward": "A", "ill": ill.astype(int)})
    table.loc[::7, "age"] = np.nan
    table.assign(**columns).to_csv(path, index=False)


def table_study(folder: Path, **changes) -> Study:
    site = {"label": "ill", "labels": {"0": "healthy", "1": "ill"}, "ignore": ["id"],
            "splits": {"test": 60, "validation": 24, "adapt": 32, "source": 48}}  # fmt: skip
    for number, name in enumerate("ab"):
        if not (folder / f"{name}.csv").exists():
            write_site(folder / f"{name}.csv", 200, number)
    study = {
        "name": "tables", "task": "table-classification", "base": {"build": "table_mlp", "config": {"width": 8}},
        "tasks": {n: {**site, "data": f"{n}.csv", **changes.pop(n, {})} for n in "ab"},
        "strategies": ["merge_then_tune", "tune_then_merge"], "methods": ["linear"], "candidates": 2,
        "budget": {"examples": 64}, "pool_budget": {"epochs": 1}, "seeds": 1,
        "tuning": {"batch_size": 16, "learning_rate": 1e-2, "evaluations": 2}, **changes,
    }  # fmt: skip
    return Study.from_dict(study, folder, folder / "work")


def said(study: Study, code: str) -> list[str]:
    return [f"{f.where} {f.message} {f.remedy}" for f in study.check() if f.code == code]


def test_a_study_of_tables_hands_back_a_model_that_has_its_preprocessing(tmp_path):
    results = run(table_study(tmp_path))
    arms = {a.name for a in results.arms}
    assert {"logistic", "boosted_trees", "logistic_own", "boosted_trees_own"} <= arms
    assert results.metric == "auroc" and {"auprc", "brier", "ece"} <= set(results.arms[0].tasks["a"].metrics)
    fitted = read_fitted(tmp_path / "work/runs/tables/model")
    assert fitted["columns"]["numeric"]["age"]["missing"] and list(fitted["columns"]["categorical"]) == ["sex", "ward"]
    labels = {"0": "healthy", "1": "ill"}
    again = evaluate(
        tmp_path / "work/runs/tables/model", tmp_path / "b.csv", task="table-classification", label="ill", labels=labels
    )
    assert again.rows == 200 and again.metrics["brier"].value < 0.3  # its columns are those that the model reads


def test_what_is_odd_at_one_site_is_found(tmp_path):
    write_site(tmp_path / "b.csv", 200, 1, ward="B", age=[np.nan] * 195 + [1, 2, 3, 4, 5])
    study = table_study(tmp_path, b={"unit": "id"})  # else rows that are alike are one unit
    assert "'ward'" in said(study, "column-constant")[0]
    assert "'age' (" in said(study, "column-mostly-empty")[0]
    table = pd.read_csv(tmp_path / "a.csv")
    table.loc[:, "sex"] = ["other" if i % 20 == 3 else s for i, s in enumerate(table["sex"])]
    parts = {"adapt": table[table["sex"] != "other"][:60], "validation": table[100:130], "test": table[130:]}
    for name, rows in parts.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    files = {"files": {n: f"{n}.csv" for n in parts}, "data": None, "splits": {}, "rare": 1}
    study = table_study(tmp_path, a=files, strategies=["joint"], b={"rare": 1})
    (text,) = said(study, "category-unknown")
    assert "tasks.a" in text and "'sex' (3 test rows); first 'other' of 'sex' in data row" in text


def test_bad_cells_are_named_by_row_column_and_value(tmp_path):
    write_site(tmp_path / "a.csv", 200, 0)
    table = pd.read_csv(tmp_path / "a.csv", dtype=object)
    table.loc[4, "age"], table.loc[6, "ill"] = "forty", "2"
    table.to_csv(tmp_path / "a.csv", index=False)
    study = table_study(tmp_path)
    (text,) = said(study, "not-a-number")
    assert (
        "1 values of column 'age' are no finite numbers: 'forty' in data row 5" in text and "categorical: [age]" in text
    )
    assert "'2'" in said(study, "unknown-label")[0] and "data row 7, column 'ill'" in said(study, "unknown-label")[0]


def test_private_tables_declare_categories_and_pool_nothing(tmp_path):
    private = {"private": True}
    with pytest.raises(FindingsError, match="private-categories"):
        table_study(tmp_path, a=private, b=private).plan()
    private = {"private": True, "categorical": {"sex": ["f", "m"], "ward": ["A"]}}
    plan = table_study(tmp_path, a=private, b=private, strategies=["tune_then_merge"]).plan()
    assert pooling(plan.graph) == [] and dict(plan.unavailable).keys() >= {"logistic", "boosted_trees"}
    assert {"logistic_own", "boosted_trees_own"} <= {a.name for a in plan.arms}
    ceilings = table_study(tmp_path, a=private, b=private, strategies=["tune_then_merge"], ceilings=True).plan()
    assert {a.name for a in ceilings.arms if a.ceiling} >= {"logistic", "boosted_trees"}


def test_models_that_read_a_column_differently_are_refused(tmp_path):
    for name, mean in (("one", 50.0), ("two", 47.5), ("three", 50.0)):
        (tmp_path / name).mkdir()
        scale = {"mean": mean, "std": 9.0, "missing": True}
        write_fitted(tmp_path / name, {"columns": {"numeric": {"age": scale}, "categorical": {"sex": ["f", "m"]}}})
    (found,) = preprocessing_findings({name: tmp_path / name for name in ("one", "two", "three")})
    assert (found.code, found.where, found.severity) == ("preprocessing-differs", "two", "error")
    assert "age: mean 47.5, spread 9 instead of mean 50, spread 9" in found.message


def test_sources_of_one_task_are_pooled_and_joined(tmp_path):
    for number, name in enumerate(("north", "south")):
        write_site(tmp_path / f"{name}.csv", 200, number)
    pd.DataFrame({"id": range(150), "smokes": ["yes", "no"] * 75}).to_csv(tmp_path / "habits.csv", index=False)
    both = {"data": ["north.csv", "south.csv"], "join": [{"table": "habits.csv", "on": ["id"]}]}
    study = table_study(tmp_path, a={**both, "where": {"source": "north"}}, b={**both, "where": {"source": "south"}})
    plan = study.plan()
    options = plan.rows.spec.options
    assert options["categorical"].keys() == {"sex", "smokes", "ward"} and options["numeric"] == ["age"]
    assert "100 of 400 rows have no row in habits.csv" in said(study, "join-unmatched")[0]


def test_chance_of_a_ranking_is_one_half():
    rows = pd.DataFrame({"label": ["ill"] * 30 + ["healthy"] * 270, "weight": 1.0})
    assert _of_ranks(rows).passed == pytest.approx(0.5 + 1.64 * (301 / (12 * 30 * 270)) ** 0.5)
    assert _of_ranks(rows).loss == pytest.approx(0.325, abs=1e-3)


def test_simple_models_of_other_packages_are_there_where_these_are_installed(tmp_path, monkeypatch):
    def planned(version: str | None) -> tuple[set[str], set[str]]:
        """The arms, and the keys of what predicts for them."""
        monkeypatch.setattr("tunemerge.tasks.task.find_spec", lambda name: version)
        asked = lambda *names: {n: version if n in ("lightgbm", "catboost") else "1" for n in names}  # noqa: E731
        monkeypatch.setattr("tunemerge.evaluate.control.packages", asked)
        plan = table_study(tmp_path).plan()
        assert not {"lightgbm", "catboost"} & dict(plan.unavailable).keys()
        return {arm.name for arm in plan.arms}, {step.key for step in plan.predictions.values()}

    without, old, new = planned(None), planned("4.6"), planned("4.7")
    assert old[0] - without[0] == {"lightgbm", "lightgbm_own", "catboost", "catboost_own"} and old[0] == new[0]
    assert without[1] < old[1] and old[1] & new[1] == without[1]  # another version: only these steps are others
