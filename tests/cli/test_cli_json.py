"""--json: one document a command, documented, errors too; completion, and output that is no terminal's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from commands import command
from small import write_study
from tunemerge.cli.app import app

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "json.md").read_text()
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMANDS = typer.main.get_command(app).commands


def documented(name: str) -> set[str]:
    """The keys that docs/json.md promises for a command."""
    row = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1])
    text = re.sub(r"\([^()]*\)", "", row.split("|")[2])
    return {"format", "command", *re.findall(r"`([a-z_]+)`", text)}


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("json")
    content = write_study(folder, tiny_bert, strategies=["merge_then_tune"], methods=["linear"], seeds=1)
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_json_and_is_documented(name):
    assert any("--json" in p.opts for p in COMMANDS[name].params), name
    assert any(f"`{name}" in line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("check", ["study.yaml"]),
        ("plan", ["study.yaml"]),
        ("run", ["study.yaml", "--dry-run"]),
        ("ls", []),
        ("gc", []),
        ("verify", []),
        ("list", ["methods"]),
    ],
)
def test_documents_have_the_documented_keys(study, name, arguments):
    done = command(name, *arguments, "--json", cwd=study)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    page = "plan" if "--dry-run" in arguments else name
    assert document.keys() == documented(page) and document["command"] == name
    assert not (study / ".tunemerge").exists() and not (study / "runs").exists()


def test_a_dry_run_shows_what_would_run_and_writes_nothing(study):
    document = json.loads(command("run", "study.yaml", "--dry-run", "--json", cwd=study).stdout)
    assert len(document["steps"]) == document["steps_to_run"] == document["steps_total"]
    done = command("run", "study.yaml", "--dry-run", cwd=study)
    assert done.returncode == 0 and "nothing was written" in done.stdout
    assert all(step["label"].split()[0] in done.stdout for step in document["steps"])
    assert sorted(p.name for p in study.iterdir()) == ["a.csv", "b.csv", "study.yaml"]


def test_errors_and_findings_are_documents_with_the_same_exit_codes(study):
    wrong = command("run", "study.yaml", "--json", "--set", "metric=acuracy", "--set", "methods=[linaer]", cwd=study)
    document = json.loads(wrong.stdout)
    assert wrong.returncode == document["exit_code"] == 2 and document["error"]["kind"] == "FindingsError"
    assert len(document["error"]["findings"]) >= 2
    assert all({"code", "severity", "message", "where", "remedy"} == f.keys() for f in document["error"]["findings"])
    for arguments in (["run", "--json"], ["run", "study.yaml", "--nonsense", "--json"], ["nonsense", "--json"]):
        usage = command(*arguments, cwd=study)
        document = json.loads(usage.stdout)
        assert usage.returncode == document["exit_code"] == 2 and document["error"]["kind"] == "UsageError", arguments
    missing = json.loads(command("export", "runs/nowhere", "out", "--json", cwd=study).stdout)
    assert "nowhere" in missing["error"]["message"] and missing["exit_code"] == 2


def completed(line: str, cwd: Path) -> list[str]:
    """What the shell offers after a line, as bash asks for it."""
    asked = {"_TUNEMERGE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    code = "from tunemerge.cli import main; main()"
    environment = {**ENVIRONMENT, **asked}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    return done.stdout.split()


def test_the_shell_completes_names(tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    results = {"arms": [{"name": "joint"}, {"name": "tune_then_merge/ties"}], "tasks": [{"name": "amazon"}]}
    (tmp_path / "runs" / "mine" / "results.json").write_text(json.dumps(results))
    assert completed("tunemerge ver", tmp_path) == ["verify"]
    assert completed("tunemerge export runs/mine out --arm t", tmp_path) == ["tune_then_merge/ties"]
    assert completed("tunemerge export runs/mine out --task a", tmp_path) == ["amazon"]
    assert completed("tunemerge export runs/nowhere out --arm t", tmp_path) == []
    assert completed("tunemerge gc --keep m", tmp_path) == ["models", "mine"]
    assert completed("tunemerge list me", tmp_path) == ["methods", "metrics"]
    assert "ties" in completed("tunemerge merge-lora a b out --rule t", tmp_path)


def test_output_that_is_no_terminals_has_no_escapes(study):
    for arguments in (["list", "tasks"], ["--help"], ["plan", "study.yaml"], ["ls"]):
        assert "\x1b" not in command(*arguments, cwd=study).stdout, arguments


def test_no_color_is_honoured_in_a_terminal(study):
    """In a terminal findings are coloured, unless NO_COLOR is set."""
    line = [sys.executable, "-m", "tunemerge", "check", "study.yaml", "--set", "metric=acuracy"]
    said = {}
    for name, extra in (("colour", {}), ("none", {"NO_COLOR": "1"})):
        parent, child = os.openpty()
        environment = {**ENVIRONMENT, "TERM": "xterm-256color", **extra}
        subprocess.run(line, cwd=study, env=environment, stdout=child, stderr=child, stdin=subprocess.DEVNULL)
        said[name] = os.read(parent, 1 << 16).decode()
        os.close(child)
        os.close(parent)
    colours = re.compile(r"\x1b\[[0-9;]*(?:3|4|9)[0-7]m")
    assert colours.search(said["colour"]) and not colours.search(said["none"])
