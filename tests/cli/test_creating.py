"""`tunemerge new`: what it writes works, its test finds broken maths, and nothing of anybody's is lost."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tunemerge.cli.app import app

BREAKS = {
    "method": ("middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2", "middle = ordered.mean(dim=0)"),
    "strategy": ("s.budget - first)", "s.budget // 2)"),
    "task": ("return rows.assign(text=plain), found", "return rows, found"),
    "metric": ("return shares.sum(axis=1) / (there > 0).sum(axis=1)", "return hits.sum(axis=1) / there.sum(axis=1)"),
}


def tunemerge(*arguments):
    return CliRunner().invoke(app, list(arguments), prog_name="tunemerge")


def test_of(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "test_mine.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


test_of.__test__ = False


@pytest.mark.parametrize("kind", BREAKS)
def test_its_test_passes_as_written_and_fails_when_the_maths_is_broken(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tunemerge("new", kind, "mine")
    assert done.exit_code == 0 and "plugins: [mine.py]" in done.output, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.py", "test_mine.py"]
    passed = test_of(tmp_path)
    assert passed.returncode == 0 and "failed" not in passed.stdout, passed.stdout
    text = (tmp_path / "mine.py").read_text()
    assert BREAKS[kind][0] in text
    (tmp_path / "mine.py").write_text(text.replace(*BREAKS[kind]))
    assert test_of(tmp_path).returncode == 1
    (tmp_path / "mine.py").write_text(text)

    again = tunemerge("new", kind, "mine")
    assert again.exit_code == 2 and "there already; nothing was written" in again.stderr
    (tmp_path / "mine.py").unlink()
    again = tunemerge("new", kind, "mine")
    assert again.exit_code == 2 and "test_mine.py: there already" in again.stderr
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["test_mine.py"]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("methd", "mine", "unknown kind 'methd'; did you mean 'method'?"),
        ("method", "My-Method", "for example my_method"),
        ("method", "class", "small letters"),
        ("method", "../mine", "for example mine"),
        ("method", "ties", "there is a merge method 'ties' already, in tunemerge.merge.methods.ties (built in)"),
        ("strategy", "joint", "there is a strategy 'joint' already"),
        ("metric", "accuracy", "there is a metric 'accuracy' already"),
        ("task", "text-classification", "for example text_classification"),
    ],
)
def test_names_that_cannot_be(kind, name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tunemerge("new", kind, name)
    assert done.exit_code == 2 and said in done.stderr and not list(tmp_path.iterdir())


def test_the_command_line_takes_plug_ins(own_code, monkeypatch):
    monkeypatch.chdir(own_code)
    tunemerge("new", "method", "mine")
    done = tunemerge("list", "methods", "--plugin", "mine.py", "--json")
    assert done.exit_code == 0
    (mine,) = [row for row in json.loads(done.stdout)["rows"] if row["plugin"]]
    assert mine["name"] == "mine" and mine["plugin"] == "mine.py" and mine["what"] == "median of the task vectors"
    (own_code / "mine.py").write_text("1 / 0\n")
    for command in (["list", "methods"], ["check", "recipe.yaml"], ["merge", "recipe.yaml", "out"]):
        done = tunemerge(*command, "--plugin", "mine.py")
        assert (
            done.exit_code == 2 and "--plugin mine.py" in done.stderr and "mine.py:1): can't be loaded" in done.stderr
        )
