"""The command line: exit codes, what it prints, what it imports, and Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from commands import command
from small import write_study, write_table

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
REPOSITORY = Path(__file__).parents[2]


def as_process(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    line = [sys.executable, "-m", "tunemerge", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def imported(arguments: list[str], modules: set[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, and print at the end which of `modules` it imported."""
    code = (
        f"import sys; sys.argv = {['tunemerge', *arguments]!r}\ntry:\n    from tunemerge.cli import main; main()\n"
        f"finally:\n    print(sorted({modules!r} & set(sys.modules)))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd)


@pytest.fixture
def study(tmp_path, tiny_bert):
    strategies = ["merge_then_tune", "tune_then_merge", "joint"]
    content = write_study(tmp_path, tiny_bert, strategies=strategies, methods=["linear"], seeds=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


def test_help_imports_neither_torch_nor_numpy(tmp_path):
    done = imported(["--help"], {"torch", "transformers", "numpy", "pandas", "pydantic"}, tmp_path)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("what", ["check", "plan"])
def test_check_and_plan_import_no_torch_and_write_nothing(study, what):
    before = sorted(p.name for p in study.iterdir())
    done = imported([what, "study.yaml"], {"torch", "transformers"}, study)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("[]")
    assert sorted(p.name for p in study.iterdir()) == before


def test_five_faults_are_reported_together(study):
    text = (study / "study.yaml").read_text()
    text = text.replace("merge_then_tune", "merge_than_tune").replace("- linear", "- linaer")
    text = text.replace("\nbudget:", "\nbugdet: 3\nbudget:")
    text = text.replace("a.csv", "nowhere.csv").replace("seeds: 1", "seeds: 1\ntarget: c\nmetric: acuracy")
    (study / "study.yaml").write_text(text)
    done = command("check", "study.yaml", cwd=study)
    assert done.returncode == 2
    for part in (
        "merge_then_tune",
        "unknown key 'bugdet'",
        "did you mean 'linear'",
        "nowhere.csv: no such file",
        "unknown task 'c'",
        "'accuracy'",
    ):
        assert part in done.stdout, part
    assert re.search(r"\b[5-9] errors", done.stdout)
    assert command("run", "study.yaml", cwd=study).returncode == 2
    assert sorted(p.name for p in study.iterdir()) == ["a.csv", "b.csv", "study.yaml"]


def test_run_then_report_and_export(study):
    done = command("run", "study.yaml", cwd=study)
    assert done.returncode == 0, done.stderr
    run = study / "runs" / "small"
    results = json.loads((run / "results.json").read_text())
    assert results["verdict"]["handed_back"] in done.stdout
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert command("report", run, cwd=study).returncode == 0
    assert (run / "report.html").read_bytes() == page
    exported = command("export", run, "mine", "--arm", "joint", "--task", "a", cwd=study)
    assert exported.returncode == 0 and "mine: joint, seed 0, one model for all tasks; test accuracy" in exported.stdout
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= {
        p.name for p in (study / "mine").iterdir()
    }
    wrong = command("export", run, "mine2", "--arm", "jiont", cwd=study)
    assert wrong.returncode == 2 and "did you mean 'joint'" in wrong.stderr
    assert not (study / "mine2").exists()
    _listed_and_verified(study, results)
    _collected(study, done.stdout, results["verdict"]["handed_back"])


def _listed_and_verified(study, results):
    """`ls` has every step, for its arms; `verify` names the file in which a bit flips, and both speak JSON."""
    listed = json.loads(command("ls", "--json", cwd=study).stdout)
    steps = {s["key"]: s for s in results["steps"]}
    assert listed["command"] == "ls" and {a["key"] for a in listed["artifacts"]} == steps.keys()
    for artifact in listed["artifacts"]:
        step = steps[artifact["key"]]
        assert artifact["runs"] == [{"run": "small", "arms": step["arms"], "seed": 0}]
        assert artifact["label"] == step["label"] and artifact["cost"]["examples"] == step["cost"]["examples"]
    shown = command("ls", cwd=study)
    assert shown.stdout.splitlines()[-1].startswith(f"{len(steps)} steps, ")
    assert "all as it was stored" in command("verify", cwd=study).stdout
    weights = next((study / ".tunemerge" / "artifacts").glob("*/*/model.safetensors"))
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 4]))
    broken = command("verify", cwd=study)
    assert broken.returncode == 1 and str(weights) in broken.stdout
    said = command("verify", "--json", cwd=study)
    (finding,) = json.loads(said.stdout)["findings"]
    assert said.returncode == 1 and finding["code"] == "store-damaged" and str(weights) in finding["message"]
    weights.write_bytes(sound)


def _collected(study, printed, handed):
    """An emptied store leaves the run as it is; what was removed is made again when an export asks for it."""
    store, run = study / ".tunemerge", study / "runs" / "small"
    assert f"in {store}; `tunemerge gc" in printed.splitlines()[-1]
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert command("gc", "--keep", "winner", cwd=study).returncode == 1  # nobody said yes
    wrong = command("gc", "--keep", "winer", cwd=study)
    assert wrong.returncode == 2 and "did you mean 'winner'" in wrong.stderr
    told = json.loads(command("gc", "--keep", "winner", "--json", cwd=study).stdout)
    assert not told["done"] and told["strip"] and not told["remove"]
    models = list((store / "artifacts").glob("*/*/model.safetensors"))
    stripped = command("gc", "--keep", "winner", "--yes", cwd=study)
    assert stripped.returncode == 0 and "would lose the model" in stripped.stdout
    assert len(list((store / "artifacts").glob("*/*/model.safetensors"))) == len(models) - len(told["strip"])
    assert "0 steps run" in command("run", "study.yaml", cwd=study).stdout
    emptied = command("gc", "--keep", "nothing", "--yes", cwd=study)
    assert emptied.returncode == 0 and "would go whole" in emptied.stdout
    assert not list((store / "artifacts").glob("*/*/*"))
    run_again = ("results.json", "report.html", "report.md", "journal.jsonl")  # when it finished, what was cached
    assert {p: p.read_bytes() for p in before if p.name not in run_again} == {
        p: content for p, content in before.items() if p.name not in run_again
    }
    exported = command("export", run, "handed", cwd=study)
    assert exported.returncode == 0 and f"handed: {handed}, seed 0; test accuracy" in exported.stdout, exported.stderr
    assert (study / "handed" / "model.safetensors").read_bytes() == (run / "model" / "model.safetensors").read_bytes()
    lost = next(a for a in ("joint", "merge_then_tune/linear") if a != handed)
    other = command("export", run, "other", "--arm", lost, cwd=study)
    assert other.returncode == 0 and "making it again" in other.stdout, other.stderr
    assert (study / "other" / "model.safetensors").exists()


def test_a_plan_begins_with_its_totals_and_folds_what_is_many(study):
    text = (study / "study.yaml").read_text().replace("- joint", "- joint\n- sequential")
    (study / "study.yaml").write_text(text)
    shown, every = command("plan", "study.yaml", cwd=study), command("plan", "study.yaml", "--steps", cwd=study)
    assert shown.returncode == every.returncode == 0, shown.stderr
    totals = shown.stdout.splitlines()[:2]
    assert re.fullmatch(r"small: 5 arms, 1 seed, \d+ steps: all to run", totals[0])
    assert re.match(r"about [\d.]+ [MG]FLOP; .* s on \d+ workers? here; .*B of disk in", totals[1]), totals[1]
    assert "5 predictions of a test" in shown.stdout and "sequential 2/2, b: sequential 1/2, a" in shown.stdout
    assert "predict a test" not in shown.stdout and "coefficients" not in shown.stdout
    assert every.stdout.count("predict a test") == 5 and "coefficients of linear" in every.stdout


def test_ctrl_c_ends_soon_and_says_how_to_resume(study):
    process = subprocess.Popen(
        [sys.executable, "-m", "tunemerge", "run", "study.yaml"],
        cwd=study,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = study / "runs" / "small" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and '"started"' in journal.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == 130
    assert "tunemerge run study.yaml" in errors
    resumed = as_process("run", "study.yaml", cwd=study)
    assert resumed.returncode == 0, resumed.stderr
    wrong = as_process("run", "nowhere.yaml", cwd=study)
    assert wrong.returncode == 2 and "nowhere.yaml" in wrong.stderr and not wrong.stdout


def test_tune_evaluate_and_merge_alone(tmp_path, tiny_bert):
    for name, seed in (("train", 1), ("more", 2), ("test", 3)):
        write_table(tmp_path / f"{name}.csv", 120, seed)
    settings = ["-s", "learning_rate=3e-3", "-s", "batch_size=8"]
    tuned = command(
        "tune", tiny_bert, "train.csv", "one", "--validation", "more.csv", "--epochs", "12", *settings, cwd=tmp_path
    )
    assert tuned.returncode == 0, tuned.stderr
    assert command("tune", tiny_bert, "more.csv", "two", "-s", "learning_rate=3e-3", cwd=tmp_path).returncode == 0
    evaluated = command("evaluate", "one", "test.csv", cwd=tmp_path)
    accuracy = float(re.search(r"accuracy\s+([0-9.]+)", evaluated.stdout)[1])
    assert accuracy > 0.8, evaluated.stdout
    recipe = {"merge_method": "linear", "models": [{"model": m, "parameters": {"weight": 0.5}} for m in ("one", "two")]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "dtype": "float32"}))
    merged = command("merge", "recipe.yaml", "merged", cwd=tmp_path)
    assert merged.returncode == 0, merged.stderr
    assert command("evaluate", "merged", "test.csv", cwd=tmp_path).returncode == 0
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "slices": []}))
    refused = command("merge", "recipe.yaml", "merged2", cwd=tmp_path)
    assert refused.returncode == 2 and "slices" in refused.stderr and not (tmp_path / "merged2").exists()


def test_wrong_usage_exits_with_2(tmp_path):
    assert command("list", "strategy", cwd=tmp_path).returncode == 2
    assert command("nonsense", cwd=tmp_path).returncode == 2
    missing = command("run", "nowhere.yaml", cwd=tmp_path)
    assert missing.returncode == 2 and "nowhere.yaml" in missing.stderr and "Traceback" not in missing.stderr


@pytest.mark.parametrize("kind", ["strategies", "methods", "tasks", "metrics"])
def test_lists(tmp_path, kind):
    done = command("list", kind, cwd=tmp_path)
    expected = {"strategies": "tune_then_merge", "methods": "ties", "tasks": "text-classification", "metrics": "auroc"}
    assert done.returncode == 0 and expected[kind] in done.stdout


def test_schema_names_every_key(tmp_path):
    schema = json.loads(command("schema", cwd=tmp_path).stdout)
    assert {"base", "pool", "tasks", "target", "budget", "margin"} <= set(schema["properties"])


README = (REPOSITORY / "README.md").read_text()


@pytest.fixture
def readme_study(tmp_path, tiny_bert):
    """README's study.yaml with tables. Only the base and the size are replaced, for the tests' sake."""
    text = re.search(r"```yaml\n(.*?)```", README, re.S)[1]
    study = yaml.safe_load(text)
    for number, (name, task) in enumerate(study["tasks"].items()):
        write_table(tmp_path / f"{name}.csv", 150, number)
        table = (tmp_path / f"{name}.csv").read_text().replace("text,label", f"{task['text']},{task['label']}")
        (tmp_path / f"{name}.csv").write_text(table)
    for old, new in ((study["base"], str(tiny_bert)), ("examples: 2000", "examples: 128"), ("seeds: 5", "seeds: 1")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "study.yaml").write_text(text)
    return study


def test_the_commands_and_the_python_of_the_readme_run_as_written(tmp_path, readme_study, tiny_bert):
    lines = re.findall(r"^\$ tunemerge (.*?)(?: {2,}#.*)?$", README, re.M)
    study_lines = [line for line in lines if "study.yaml" in line or "runs/reviews" in line]
    assert len(study_lines) == 6
    shutil.copy(tmp_path / "amazon.csv", tmp_path / "new.csv")
    for line in study_lines:
        done = command(*line.split(), cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    shutil.copy(tmp_path / "amazon.csv", tmp_path / "rows.csv")
    shutil.copy(tmp_path / "yelp.csv", tmp_path / "more.csv")
    shutil.copy(tmp_path / "yelp.csv", tmp_path / "test.csv")
    single = [line.replace("MODEL", str(tiny_bert)) for line in lines if line.startswith(("tune ", "evaluate "))]
    assert len(single) == 2
    for line in single:
        done = command(*line.split(), cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    block = re.search(r"```python\n(.*?)```", README, re.S)[1]
    assert readme_study["base"] in block
    code = f"""
import numpy
base, model_a, model_b = ({{"w": numpy.arange(9.0) * i}} for i in range(3))
block = {block.replace(readme_study["base"], str(tiny_bert))!r}
for again in range(2):  # what was imported the first time must not change what a name is
    exec(block)
print(sorted(merged), len(table))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("['w'] ")
