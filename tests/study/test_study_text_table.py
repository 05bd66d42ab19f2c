"""A text beside columns: one model of two towers, tuned, merged, evaluated and merged again tower by tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

import tunemerge
from commands import command
from corpus import sentences
from small import SPLITS, TUNING, run, small_study
from tunemerge.study.study import Study


def write_notes(file: Path, seed: int) -> None:
    """Half of the label is in the text, half in a column; another column is empty now and then."""
    random = np.random.default_rng(seed)
    texts, words = sentences(240, seed)
    measured = random.normal(0, 1, len(texts))
    score = measured + np.where(np.array(words) == "positive", 1.0, -1.0)
    other = np.where(random.random(len(texts)) < 0.2, np.nan, random.normal(0, 1, len(texts)))
    columns = {"note": texts, "measured": measured, "other": other, "ward": random.choice(["x", "y"], len(texts))}
    pd.DataFrame({**columns, "label": np.where(score > 0, "ill", "healthy")}).to_csv(file, index=False)


def notes_study(folder: Path, base: Path, **changes: Any) -> Study:
    for number, name in enumerate("ab"):
        write_notes(folder / f"notes_{name}.csv", number)
    tasks = {n: {"data": f"notes_{n}.csv", "text": "note", "splits": SPLITS} for n in "ab"}
    values = {
        "tasks": tasks, "task": "text-table-classification", "methods": ["linear"], "seeds": 1, "metric": "auroc",
        "strategies": ["merge_then_tune", "experts"], "budget": {"examples": 320}, **changes,
    }  # fmt: skip
    return small_study(folder, base, **values)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Any:
    study = notes_study(tmp_path_factory.mktemp("notes"), tiny_bert)
    return study, run(study)


def expert(study: Study, results: Any, task: str) -> Path:
    (arm,) = [a for a in results.arms if a.name == "experts"]
    (key,) = arm.models[task][0]
    return study.store.get(key).path


def test_both_together_tell_more_than_either_alone(finished: Any) -> None:
    _, results = finished
    scores = {a.name: a.test.value for a in results.arms}
    assert scores["both_linear"] > max(scores["columns_linear"], scores["tfidf_linear"]) + 0.05
    assert scores["merge_then_tune/linear"] > 0.6  # it has learned something


def test_a_recipe_merges_each_tower_by_its_name(finished: Any, tmp_path: Path) -> None:
    study, results = finished
    a, b = expert(study, results, "a"), expert(study, results, "b")
    weights = ([{"filter": "table_tower", "value": own}, {"value": 0.5}] for own in (1.0, 0.0))
    models = [{"model": str(m), "parameters": {"weight": w}} for m, w in zip((a, b), weights, strict=True)]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": models}))
    said = command("merge", "recipe.yaml", "out", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    one, two, out = (load_file(m / "model.safetensors") for m in (a, b, tmp_path / "out"))
    for name, tensor in out.items():
        wanted = one[name] if name.startswith("table_tower.") else (one[name] + two[name]) / 2
        np.testing.assert_allclose(tensor, wanted, atol=1e-6, err_msg=name)
    assert {name.split(".")[0] for name in out} == {"text_tower", "table_tower", "fusion", "head"}
    options = ("--kind", "text-table-classification", "--text", "note")
    judged = command("evaluate", "out", study.folder / "notes_a.csv", *options, cwd=tmp_path)
    assert judged.returncode == 0 and "auroc" in judged.stdout, judged.stderr


def test_adapters_of_both_towers_are_merged_as_adapters(tmp_path: Path, tiny_bert: Path) -> None:
    changes = {"tuning": {**TUNING, "method": "lora", "lora": {"rank": 2}}, "budget": {"examples": 64}}
    results = run(notes_study(tmp_path, tiny_bert, strategies=["tune_then_merge"], **changes))
    (arm,) = [a for a in results.arms if not a.simple]
    assert arm.form == "adapter r=4 on base"


def test_a_base_that_reads_no_text_is_refused(tmp_path: Path) -> None:
    values = notes_study(tmp_path, Path("base")).config.model_dump(exclude_unset=True)
    study = Study.from_dict({**values, "base": {"build": "table_mlp"}}, tmp_path, tmp_path / "work")
    assert [f.message for f in study.check() if f.severity == "error" and "starts from a text encoder" in f.message]


def test_what_is_handed_back_answers_rows_without_labels(finished: Any, tmp_path: Path) -> None:
    study, _ = finished
    rows = pd.read_csv(study.folder / "notes_a.csv")
    rows.drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
    found = tunemerge.predict(
        study.run_folder / "model", tmp_path / "new.csv", task="text-table-classification", text="note"
    )
    assert (found["predicted"] == rows["label"]).mean() > 0.6
