"""A study whose base is a plain torch module: it tunes, merges, predicts, is exported, and loads again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pictures
import tunemerge
from small import run
from tunemerge.errors import UsageError
from tunemerge.graph.step import Leaf
from tunemerge.plugins import load_plugin
from tunemerge.study.study import Study
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig


def study(folder: Path, **changes: Any) -> Study:
    (folder / "nets.py").write_text(pictures.NETS)
    for number, name in enumerate("ab"):
        pictures.write_npz(folder / f"{name}.npz", 150, number)
    splits = {"test": 40, "validation": 20, "adapt": 32, "source": 48}
    values = {
        "name": "small",
        "task": "image-classification",
        "base": {"build": "nets.py:make", "config": {"width": 4}},
        "tasks": {n: {"data": f"{n}.npz", "splits": splits} for n in "ab"},
        "strategies": ["merge_then_tune", "tune_then_merge", "joint", "base_probe"],
        "methods": ["task_arithmetic"],
        "candidates": 2,
        "budget": {"steps": 6},
        "seeds": 2,
        "tuning": {"batch_size": 8, "learning_rate": 0.01, "evaluations": 2, "precision": "float32"},
        **changes,
    }
    return Study.from_dict(values, folder, folder / "work")


def test_the_study_of_the_page_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "any-network.md").read_text()
    code, text = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    (tmp_path / "nets.py").write_text(code)
    (tmp_path / "study.yaml").write_text(text)
    for number, name in enumerate("ab"):
        pictures.write_npz(tmp_path / f"{name}.npz", 150, number)
    one = Study.from_yaml(tmp_path / "study.yaml", workdir=tmp_path / "work")
    assert [f for f in one.check() if f.severity == "error"] == []
    results = run(one)
    assert {"merge_then_tune/task_arithmetic", "pixel_logistic"} <= {arm.name for arm in results.arms}
    assert results.base == "nets.py:make(width=8), drawn by every seed"
    model = one.run_folder / "model"
    config = json.loads((model / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1"} and config["head"] == [["4.weight", 0], ["4.bias", 0]]
    # Each seed draws its own base, which all of its arms start from.
    assert sorted(s.params["seed"] for s in one.plan().graph.steps if s.op == "init") == [0, 1]
    found = tunemerge.evaluate(model, tmp_path / "a.npz", task="image-classification")
    assert found.rows == 150 and found.metrics["accuracy"].value > 0.6


def test_a_folder_runs_no_code_that_nobody_named(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    pictures.made_base(tmp_path, "OWN = 1")
    table = pictures.table(20)
    rows, _ = TASKS["image-classification"].convert(table, TASKS["image-classification"].Options(), "table")
    spec = TASKS["image-classification"].spec(None, [rows])
    TASKS["image-classification"].initialise(tmp_path, model, spec, 0)
    assert TASKS["image-classification"].load(model, spec).net.top.out_features == 2
    (tmp_path / "nets.py").write_text(pictures.NETS + "\nCHANGED = 1\n")
    load_plugin(tmp_path / "nets.py")
    with pytest.raises(UsageError, match=r"made by nets\.py:make .* not loaded here, or has changed"):
        TASKS["image-classification"].load(model, spec)


@pytest.mark.parametrize(
    ("base", "code", "said"),
    [
        ({"build": "nets.py:broken"}, "build-raised", "no such layer"),
        ({"build": "nets.py:mak"}, "no-such-function", "did you mean 'make'"),
        ({"build": "nets.py:nothing"}, "build-no-module", "returned int"),
        ({"build": "other.py:make"}, "plugin", "no such file"),
        ({"build": "nets.py:wrong_size"}, "bad-network", "fails on pixel_values [4, 1, 8, 8]"),
        ({"build": "nets.py:make", "config": {"depth": 3}}, "build-raised", "depth"),
        ({"build": "nets.py:make", "weights": "w.safetensors"}, "bad-network", "w.safetensors"),
        ({"build": "no_such_net"}, "bad-network", "unknown network"),
    ],
)
def test_what_is_wrong_with_a_network_is_a_finding(tmp_path: Path, base: dict[str, Any], code: str, said: str) -> None:
    found = [f for f in study(tmp_path, base=base).check() if f.severity == "error"]
    assert [f.code for f in found] == [code], found
    assert said in found[0].message and found[0].where.startswith("base")


def test_where_rows_cannot_be_read_the_network_is_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,ill\n1,yes\ntwo,no\n3,yes\n4,no\n")
    task = {"data": "a.csv", "label": "ill", "numeric": ["age"]}
    config = {"name": "s", "task": "table-classification", "base": {"build": "table_mlp"}}
    config |= {"tasks": {"a": task}, "budget": {"steps": 6}}
    found = [f for f in Study.from_dict(config, tmp_path).check() if f.severity == "error"]
    assert "not-a-number" in {f.code for f in found} and not any(f.where.startswith("base") for f in found), found


def test_weights_are_taken_and_a_head_only_where_its_labels_are_known(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    one = study(tmp_path, seeds=1, strategies=["joint"])
    run(one)
    state = load_file(one.run_folder / "model" / "model.safetensors")
    save_file(state, tmp_path / "w.safetensors")
    labels = ["1", "0"]
    for given in ([], labels):
        base = {"build": "nets.py:make", "config": {"width": 4}, "weights": "w.safetensors", "labels": given}
        other = study(tmp_path, base=base, name="other", seeds=1, strategies=["joint"])
        start = next(s for s in other.plan().graph.steps if s.op == "init")
        (leaf,) = start.inputs["model"]
        assert isinstance(leaf, Leaf)
        (tmp_path / f"start{len(given)}").mkdir()
        spec = Spec.of(start.params)
        TASKS[spec.kind].initialise(leaf.path, tmp_path / f"start{len(given)}", spec, 0)
        began = load_file(tmp_path / f"start{len(given)}" / "model.safetensors")
        assert (began["stem.weight"] == state["stem.weight"]).all()
        turned = bool((began["top.bias"] == state["top.bias"].flip(0)).all())
        assert turned == bool(given)


def test_what_batch_norms_have_seen_is_averaged(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    one = study(tmp_path, seeds=1, strategies=["merge_only"])
    run(one)
    merge = next(s for s in one.plan().graph.steps if s.op == "merge")
    assert {"running_mean", "running_var"} <= set(merge.params["average"])
    models = [one.store.get(m.key) for m in merge.inputs["models"]]
    out = one.store.get(merge.key)
    assert out is not None
    seen = [load_file(m.path / "model.safetensors")["norm.running_var"].numpy() for m in models if m is not None]
    merged = load_file(out.path / "model.safetensors")["norm.running_var"].numpy()
    assert np.allclose(merged, np.mean(seen, axis=0), rtol=1e-6)


def test_a_linear_probe_leaves_the_body_of_a_network_alone(tmp_path: Path) -> None:
    from tunemerge.tune.model import tune_model

    base = pictures.made_base(tmp_path)
    kind = TASKS["image-classification"]
    rows, _ = kind.convert(pictures.table(40), kind.Options(), "table")
    rows.assign(unit=[str(i) for i in range(40)], weight=1.0).to_parquet(tmp_path / "rows.parquet")
    spec = kind.spec(None, [rows])
    (tmp_path / "start").mkdir()
    kind.initialise(base, tmp_path / "start", spec, 0)
    config = TuneConfig(method="head", batch_size=8, learning_rate=0.01)
    file = tmp_path / "rows.parquet"
    tune_model(tmp_path / "start", tmp_path / "out", [file], [file], task=spec, seed=0, examples=24, config=config)
    before, after = (kind.load(tmp_path / name, spec).net.state_dict() for name in ("start", "out"))
    assert [n for n in before if not bool((before[n] == after[n]).all())] == ["top.weight", "top.bias"]
