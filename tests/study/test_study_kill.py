"""A real study, killed at random moments with SIGKILL and run again, ends as if nothing had happened.

TUNEMERGE_KILLS=50 asks for more kills than the few of an everyday test run.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from small import write_study

KILLS = int(os.environ.get("TUNEMERGE_KILLS", "4"))


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunemerge", "run", "study.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def open_attempts(folder: Path) -> list[str]:
    """The operations that the last run had started and not ended when it died."""
    journal = folder / "runs" / "killed" / "journal.jsonl"
    entries = []
    for line in journal.read_text().splitlines() if journal.exists() else []:
        with contextlib.suppress(ValueError):  # a torn line is no entry yet
            entries.append(json.loads(line)["entry"])
    last = [e for e in entries if e["run"] == entries[-1]["run"]]
    ended = {e["attempt"] for e in last if e["event"] in ("finished", "failed")}
    return [e["op"] for e in last if e["event"] == "started" and e["attempt"] not in ended]


def digests(folder: Path) -> dict[str, str]:
    """Of every step, and of the model handed back."""
    results = json.loads((folder / "runs" / "killed" / "results.json").read_text())
    export = json.loads((folder / "runs" / "killed" / "model" / "tunemerge_export.json").read_text())
    return {**{s["key"]: s["digest"] for s in results["steps"]}, "model": export["digest"]}


def finish(folder: Path) -> dict[str, str]:
    process = start(folder)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    return digests(folder)


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, tiny_bert):
    strategies = ["merge_then_tune", "tune_then_merge", "best_single"]
    small = {"strategies": strategies, "methods": ["ties"], "seeds": 1}
    study = write_study(tmp_path, tiny_bert, name="killed", **small)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    undisturbed = finish(tmp_path)
    generator, killed, at = random.Random(0), 0, Counter[str]()
    while killed < KILLS:
        shutil.rmtree(tmp_path / ".tunemerge")
        shutil.rmtree(tmp_path / "runs")
        while killed < KILLS:
            process = start(tmp_path)
            store = tmp_path / ".tunemerge"
            while process.poll() is None and not (store / "artifacts").exists():
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 6))
            if process.poll() is not None:
                process.communicate()
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            at.update(open_attempts(tmp_path) or ["between steps"])
        assert finish(tmp_path) == undisturbed
    print(f"{killed} kills, at {dict(at)}: the same {len(undisturbed)} digests")
