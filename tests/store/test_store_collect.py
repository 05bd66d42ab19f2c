"""What goes from a store and what stays: by choice, by what live runs hold, and what a removed model leaves."""

import os
import subprocess
import sys

import pytest

from tunemerge.errors import StoreError
from tunemerge.store.artifacts import Store
from tunemerge.store.collect import plan_sweep, sweep
from tunemerge.store.holds import gate, holding, is_live
from tunemerge.store.inventory import disk_usage, entries
from tunemerge.store.sealed import write_sealed


def publish(store, key, files, inputs=()):
    folder = store.scratch(key)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    meta = {"label": f"step {key}", "inputs": {"models": list(inputs)}}
    return store.publish(key, "tune", folder, {"seconds": 1.0}, meta)


@pytest.fixture
def store(tmp_path):
    """A model (aaaa), a second name of its weights (bbbb), predictions (cccc) of rows, and a log."""
    store = Store(tmp_path / "store")
    publish(store, "aaaa", {"model.safetensors": bytes(100_000), "curve.json": b"{}", "config.json": b"{}"})
    folder = store.scratch("bbbb")
    os.link(store.path("aaaa") / "model.safetensors", folder / "model.safetensors")
    store.publish("bbbb", "merge", folder, {"seconds": 1.0}, {})
    publish(store, "cccc", {"predictions.parquet": bytes(1000)}, ["aaaa", "rrrr"])
    write_sealed(store.root / "rows" / "rrrr.parquet", b"rows")
    write_sealed(store.root / "rows" / "ssss.parquet", b"rows that no step has read")
    store.log("dead").parent.mkdir()
    store.log("dead").write_text("said")
    store.journal.append({"event": "test_opened", "plan": "p", "tests": ["t"]})
    return store


def fate(**fates):
    return lambda entry: fates.get(entry.key, "keep")


def test_a_file_with_two_names_is_counted_once(store):
    assert 100_000 < disk_usage(store.root) < 107_000
    assert disk_usage(store.root / "nowhere") == 0 == len(entries(Store(store.root / "nowhere")))


def test_entries_say_what_each_step_is(store):
    found = {e.key: e for e in entries(store)}
    assert list(found) == ["aaaa", "bbbb", "cccc"]  # the oldest first
    assert found["aaaa"].model and found["aaaa"].size > 100_000 and found["aaaa"].label == "step aaaa"
    assert not found["cccc"].model and found["cccc"].inputs == {"aaaa", "rrrr"} and found["cccc"].cost["seconds"] == 1.0


def test_what_was_opened_is_remembered_when_the_steps_are_gone(store):
    found, freed = sweep(store, lambda entry: "remove")
    assert len(found.remove) == 3 and freed > 100_000
    assert entries(store) == [] and not list((store.root / "rows").iterdir()) and not store.log("dead").exists()
    assert [e["event"] for e in store.journal.read()] == ["test_opened"]
    assert sweep(Store(store.root / "nowhere"), lambda entry: "remove")[1] == 0
    assert not (store.root / "nowhere").exists()


def test_a_step_without_its_model_keeps_what_is_known_of_it(store):
    before = store.get("aaaa")
    sweep(store, fate(aaaa="strip", cccc="strip"))
    assert store.get("aaaa") is None and store.get("cccc") is not None  # which has no model
    known, complete = store.find("aaaa")
    assert not complete and known == before and store.read(known, "curve.json") == b"{}"
    assert not (store.path("aaaa") / "model.safetensors").exists() and store.damage("aaaa") == []
    assert {e.key: e.state for e in entries(store)} == {"aaaa": "stripped", "bbbb": "complete", "cccc": "complete"}
    again = publish(store, "aaaa", {"model.safetensors": bytes(100_000), "curve.json": b"{}", "config.json": b"{}"})
    assert store.get("aaaa") == again and again.digest == before.digest and store.damage("aaaa") == []


def test_rows_stay_while_a_step_that_read_them_stays(store):
    sweep(store, fate(aaaa="remove"))
    assert {p.name for p in (store.root / "rows").iterdir()} == {"rrrr.parquet", "rrrr.parquet.seal"}


def test_an_incomplete_step_goes_whatever_is_chosen(store):
    (store.path("cccc") / "predictions.parquet").unlink()
    assert [e.key for e in plan_sweep(store, fate()).remove] == ["cccc"]


def test_what_a_live_run_holds_stays(store):
    with holding(store.root, "run", ["aaaa", "ssss"]):
        assert is_live(store.root, "run")
        found, _ = sweep(store, lambda entry: "remove")
        assert [e.key for e in found.held] == ["aaaa"] and [e.key for e in entries(store)] == ["aaaa"]
        assert (store.root / "rows" / "ssss.parquet").exists()
    assert not is_live(store.root, "run")
    assert [e.key for e in sweep(store, lambda entry: "remove")[0].remove] == ["aaaa"]


def test_nothing_goes_while_what_a_live_run_holds_can_not_be_read(store):
    with holding(store.root, "run", ["aaaa"]):
        (store.root / "holds" / "run.lock").write_text("[")
        with pytest.raises(StoreError, match="a run is at work, and what it needs can't be read"):
            sweep(store, lambda entry: "remove")
    assert len(entries(store)) == 3


def test_what_a_killed_run_held_is_free_at_once(store):
    code = f"""
import os, signal
from pathlib import Path
from tunemerge.store.holds import holding
with holding(Path({str(store.root)!r}), "killed", ["aaaa"]):
    print("holds", flush=True)
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    with gate(store.root) as held:
        assert held == {"aaaa"} and is_live(store.root, "killed")
    process.kill()
    process.wait()
    assert not is_live(store.root, "killed")
    with gate(store.root) as held:
        assert held == frozenset()
    process.stdin.close()
    process.stdout.close()


def test_a_step_that_another_process_computes_stays(store):
    with store.lock("cccc"):
        sweep(store, lambda entry: "remove")
    assert [e.key for e in entries(store)] == ["cccc"]


def test_a_step_may_not_write_the_mark_of_a_removed_model(store):
    with pytest.raises(StoreError, match=r"stripped\.json: a step may not write"):
        publish(store, "dddd", {"stripped.json": b"{}"})
