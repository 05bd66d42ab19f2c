"""One store under several studies, and after models were removed from it: nothing is computed twice without need."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from small import run, small_study, write_study
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.store.collect import sweep
from tunemerge.store.inventory import entries
from tunemerge.store.journal import Journal
from tunemerge.store.verify import verify_store
from tunemerge.study.export import export_arm, is_at_hand, model_key
from tunemerge.study.restore import restore, restoring_plan
from tunemerge.study.uses import read_uses

ORDERS = ["merge_then_tune", "tune_then_merge"]
PROCESSES = int(os.environ.get("TUNEMERGE_PROCESSES", "0"))


def computed(journal: Path) -> Counter[str]:
    """How many times each step was computed to its end."""
    return Counter(e["key"] for e in Journal(journal).read() if e["event"] == "finished" and not e["cached"])


@pytest.fixture(scope="module")
def two(tmp_path_factory, tiny_bert):
    """A study, and one of another name with one more arm in the same folder."""
    folder = tmp_path_factory.mktemp("two")
    first = small_study(folder, tiny_bert, strategies=ORDERS, methods=["linear"], seeds=1, keep="winner")
    second = small_study(folder, tiny_bert, strategies=[*ORDERS, "joint"], methods=["linear"], seeds=1, name="second")
    run(first)
    stripped = {e.key for e in entries(first.store) if e.state == "stripped"}
    return first, second, stripped, run(second)


def test_a_finished_run_keeps_the_winner_alone(two):
    first, _, stripped, _ = two
    use = next(u for u in read_uses(first.workdir / "runs") if u.name == "small")
    models = {e.key for e in entries(first.store) if e.model} & use.steps.keys()
    assert use.finished and stripped and use.winner and not use.winner & stripped
    assert stripped == models - use.winner


def test_a_second_study_computes_only_what_is_new(two):
    first, second, stripped, results = two
    once, again = computed(first.run_folder / "journal.jsonl"), computed(second.run_folder / "journal.jsonl")
    assert set(once.values()) == {1}
    new = [s for s in results.steps if s.arms == ["joint"]]
    assert "tune" in {s.op for s in new} and {s.key for s in new} <= set(again)
    # What joint tuning starts from was removed, and is needed.
    others = [s for s in results.steps if s.key in again and s not in new]
    assert [s.op for s in others] == ["init"] and others[0].key in stripped
    assert {s.key for s in results.steps if s.cached} == {s.key for s in results.steps} - set(again)
    assert verify_store(first.store) == []


def test_an_export_makes_a_removed_model_again_with_the_same_bits(two, tmp_path):
    _, second, stripped, results = two
    arm = next(a.name for a in results.arms if model_key(results, a.name) in stripped)
    key, plan = model_key(results, arm), second.plan()
    assert not is_at_hand(second.store, second.run_folder / "model", key)
    journal = Journal(tmp_path / "journal.jsonl")
    restore(plan, restoring_plan(plan, key), second.store, journal, InlineExecutor())
    assert key in computed(journal.path) and "predict" not in {e["op"] for e in journal.read()}
    assert export_arm(results, second.store, tmp_path / "out", arm).arm == arm
    digests = {s.key: s.digest for s in results.steps}
    assert second.store.get(key).digest == digests[key]


def test_what_no_run_uses_goes_whole(two):
    first, second, _, _ = two
    plan = json.loads((second.run_folder / "plan.json").read_text())
    assert plan["steps"].keys() == {s.key for s in second.plan().graph.steps}
    assert {e.key for e in entries(first.store)} == plan["steps"].keys()
    found, _ = sweep(first.store, lambda e: "keep" if e.key in plan["steps"] else "remove")
    assert not found.remove


@pytest.mark.skipif(
    PROCESSES < 2, reason="TUNEMERGE_PROCESSES=8: that many whole programs; test_processes.py has the steps"
)
def test_processes_that_run_one_study_compute_each_step_once(tmp_path, tiny_bert):
    study = write_study(tmp_path, tiny_bert, strategies=["merge_then_tune", "joint"], methods=["linear"], seeds=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "tunemerge", "run", "study.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(PROCESSES)
    ]
    said = [r.communicate(timeout=600)[0].decode() for r in runs]
    assert [r.returncode for r in runs] == [0] * PROCESSES, said
    results = json.loads((tmp_path / "runs" / "small" / "results.json").read_text())
    made = computed(tmp_path / "runs" / "small" / "journal.jsonl")
    assert made == {s["key"]: 1 for s in results["steps"]}
    assert results["failed_attempts"] == 0
