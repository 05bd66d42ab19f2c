"""Ctrl-C while a library is in the middle of a decomposition, which nothing can stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

# The decomposition takes a minute, and its thread hears of nothing meanwhile.
SLOW = """
import sys, time, torch, scipy.linalg
from tunemerge.cli import main
def slow(*rest, **more):
    print("begun", flush=True)
    time.sleep(60)
torch.linalg.svd = scipy.linalg.eigh = slow
sys.argv = ["tunemerge", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("command", ["merge", "extract-lora", "intermediate"])
def test_it_ends_at_once_and_leaves_nothing(command: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("base", "one", "two"):
        (tmp_path / name).mkdir()
        state = {"layer.weight": rng.normal(size=(40, 40)).astype(np.float32)}
        save_file(state, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / name / "config.json").write_text('{"model_type": "bert"}')
    text = "merge_method: tsv_m\nbase_model: base\nmodels: [{model: one}, {model: two}]\n"
    second = "---\nmerge_method: linear\nmodels: [{model: first}]\nparameters: {weight: 1}\n"
    (tmp_path / "r.yaml").write_text(text + ("name: first\n" + second if command == "intermediate" else ""))
    given = ["extract-lora", "one", "out", "--base", "base", "--rank", "4"]
    argv = given if command == "extract-lora" else ["merge", "r.yaml", "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *argv], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    while (line := process.stdout.readline()) and "begun" not in line:
        pass
    assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    assert process.wait(20) == 130
    assert time.monotonic() - sent < 10, "five seconds on a machine with nothing else to do"
    assert "interrupted" in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {".tunemerge"} == {"base", "one", "two", "r.yaml"}
    assert not list((tmp_path / ".tunemerge").glob("tmp/*/*")) and not list(tmp_path.glob(".tunemerge/artifacts/*/*"))
