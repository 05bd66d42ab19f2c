"""Stores that older releases wrote: they open, list and verify, and their steps are reused where keys still agree."""

import json
import os
import random
import tarfile
from pathlib import Path

import graph_operations as ops
import pytest

from tunemerge.cli.store import list_steps
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.graph.run import StepFinished, run_plan
from tunemerge.store.artifacts import Store
from tunemerge.store.inventory import entries
from tunemerge.store.verify import verify_store
from tunemerge.study.study import Study

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.tar.xz"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name.removesuffix(".tar.xz"))
def folder(request, tmp_path):
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_there_are_golden_stores():
    assert GOLDEN


def test_it_is_listed_and_verified(folder, capsys):
    store = Store(folder / ".tunemerge")
    found = entries(store)
    planned = json.loads((folder / "runs" / "golden" / "plan.json").read_text())["steps"]
    assert {e.state for e in found} == {"complete"}
    assert {e.key for e in found} > planned.keys() and sum(e.op == "t-sum" for e in found) == 14
    assert verify_store(store) == []
    list_steps(folder)
    assert f"{len(found)} steps, " in capsys.readouterr().out
    assert any(e["event"] == "test_opened" for e in store.journal.read())


def test_every_bit_that_flips_in_it_is_found(folder):
    """Wherever in the store it is; TUNEMERGE_FLIPS=200 asks for more than an everyday test run does."""
    store, draw = Store(folder / ".tunemerge"), random.Random(0)
    files = [p for p in sorted(store.root.rglob("*")) if p.is_file() and p.stat().st_size]
    flips = int(os.environ.get("TUNEMERGE_FLIPS", "20"))
    for _ in range(flips):
        file = draw.choice(files)
        sound = file.read_bytes()
        bit = draw.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        (finding,) = verify_store(store)
        assert str(file).removesuffix(".seal") in finding.message, (file, bit)
        file.write_bytes(sound)
    assert verify_store(store) == []
    print(f"{flips} flips over {len(files)} files, {len({f.suffix for f in files})} kinds: all found")


def test_steps_of_the_same_keys_are_reused(folder):
    """All steps of the tests' operations; of the study those whose operations and versions of torch are the same."""
    store = Store(folder / ".tunemerge")
    old, events = {e.key for e in entries(store)}, []
    run_plan(ops.diamond(), store, InlineExecutor(), on_event=events.append)
    assert len(events) == 14 and all(isinstance(e, StepFinished) and e.cached for e in events)
    study = Study.from_yaml(folder / "study.yaml", workdir=folder)
    results = study.run(executor=InlineExecutor())
    keys = {s.key for s in results.steps}
    assert {s.key for s in results.steps if s.cached} == keys & old
    assert verify_store(store) == []
