"""`tunemerge merge` and `tunemerge check` of recipes: options, exit codes, what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from tunemerge.cli.app import app

RECIPE = """merge_method: dare_ties
base_model: base
models: [{model: a}, {model: b}]
parameters: {weight: 1, density: 0.5}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    for i, name in enumerate(("base", "a", "b")):
        moved = base + np.random.default_rng(i).standard_normal(base.shape).astype(np.float32) / 50 * (i > 0)
        Path(name).mkdir()
        save_file({"w": moved, "v": moved}, f"{name}/model.safetensors")
        Path(name, "config.json").write_text('{"model_type": "x"}')
        Path(name, "tokenizer.json").write_text("{}")
    Path("r.yaml").write_text(RECIPE)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def weights(name: str) -> bytes:
    return Path(name, "model.safetensors").read_bytes()


def test_seeds_and_repeating_from_a_model_s_own_files() -> None:
    for out, options in (("one", ["--seed", "5"]), ("two", ["--random-seed", "5"]), ("three", [])):
        assert run("merge", "r.yaml", out, *options).exit_code == 0
    assert weights("one") == weights("two") != weights("three")
    for given in ("one", "one/model.safetensors"):
        assert run("merge", given, "again").exit_code == 0
        assert weights("again") == weights("one")
    assert run("merge", "one", "again", "--seed", "6").exit_code == 0
    assert weights("again") != weights("one")
    assert run("check", "one").exit_code == 0
    Path("a/config.json").write_text("{}")
    done = run("merge", "one", "again")
    assert done.exit_code == 2 and "config.json is" in done.output and "run the recipe itself" in done.output


def test_output_options() -> None:
    done = run("merge", "r.yaml", "out", "--out-shard-size", "7KB", "--no-copy-tokenizer", "-j", "1")
    assert done.exit_code == 0 and done.output.strip().endswith("out")
    assert len(list(Path("out").glob("model-*-of-00002.safetensors"))) == 2
    assert not Path("out/tokenizer.json").exists()
    with safe_open("out/model-00001-of-00002.safetensors", "np") as file:
        assert json.loads(file.metadata()["tunemerge"])["recipe"] == RECIPE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out-shard-size", "many"], "expected a size such as 5B"),
        (["--out-shard-size", "0"], "expected a size such as 5B"),
        (["--device", "tpu"], "expected auto, cpu, cuda"),
        (["--threads", "0"], "expected a positive number"),
    ],
)
def test_wrong_options(options: list[str], message: str) -> None:
    done = run("merge", "r.yaml", "out", *options)
    assert done.exit_code == 2 and message in done.output and not Path("out").exists()


def test_a_dry_run_shows_the_plan_and_writes_nothing() -> None:
    before = sorted(Path().rglob("*"))
    done = run("merge", "r.yaml", "out", "--dry-run")
    assert done.exit_code == 0 and sorted(Path().rglob("*")) == before
    for part in ("dare_ties", "2", "12,800", "a, b; base base", "2 tensors, 0.000 GB", "nothing stands in the way"):
        assert part in done.output, part
    Path("b/model.safetensors").write_bytes(b"short")
    done = run("merge", "r.yaml", "out", "--dry-run")
    assert done.exit_code == 2 and "1 error" in done.output


def test_crimes() -> None:
    save_file({"w": np.zeros((40, 40), np.float32)}, "b/model.safetensors")
    done = run("merge", "r.yaml", "out")
    assert done.exit_code == 2 and "--allow-crimes merges each tensor" in done.output
    done = run("merge", "r.yaml", "out", "--allow-crimes")
    assert done.exit_code == 0 and "Waived by --allow-crimes: each tensor is merged among" in done.output


def test_check_tells_a_recipe_from_a_study() -> None:
    assert "nothing stands in the way" in run("check", "r.yaml").output
    Path("r.yaml").write_text(RECIPE.replace("density: 0.5", "densty: 0.5, t: 1") + "base_model: b\n")
    assert "'base_model' is given twice" in run("check", "r.yaml").output
    Path("r.yaml").write_text(RECIPE.replace("density: 0.5", "densty: 0.5, t: 1").replace("{model: b}", "{model: ./c}"))
    done = run("check", "r.yaml")
    assert done.exit_code == 2 and "2 errors" in done.output
    for part in ("did you mean 'density'", "t has no effect on dare_ties", "./c: no such file or folder"):
        assert part in done.output, part
    Path("study.yaml").write_text("name: x\nbase: base\nmethods: [linear]\ntasks: {}\nmodels: 3\n")
    assert "recipe" not in run("check", "study.yaml").output
    assert run("check", "nowhere.yaml").exit_code == 2


def test_nothing_large_is_imported_that_a_merge_does_not_need() -> None:
    modules = {"torch", "transformers", "tokenizers", "huggingface_hub", "pandas", "pydantic"}
    code = "import sys; sys.argv = ['tunemerge', 'merge', 'r.yaml', 'out']\n"
    code += "try:\n    from tunemerge.cli import main; main()\n"
    code += f"finally:\n    print(sorted({modules!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout + done.stderr
