import dataclasses
import time
from itertools import pairwise
from pathlib import Path

import graph_operations as ops
import pytest

from tunemerge.errors import StepFailedError
from tunemerge.graph.executors import execute
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.graph.operation import OPERATIONS
from tunemerge.graph.plan import Plan
from tunemerge.graph.run import (
    StepFailed,
    StepFinished,
    StepProgress,
    StepStarted,
    failed_attempts,
    run_plan,
)
from tunemerge.graph.step import Leaf, Step
from tunemerge.graph.twins import content_key
from tunemerge.store.artifacts import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def value(artifact):
    return int((artifact.path / "number").read_text())


def run(plan, store, events=None):
    return run_plan(plan, store, InlineExecutor(), on_event=(events if events is not None else []).append)


def computed(events):
    return [e.label for e in events if isinstance(e, StepStarted)]


def test_a_graph_is_computed(store):
    plan, events = ops.diamond(), []
    artifacts = run(plan, store, events)
    assert list(artifacts) == [s.key for s in plan.steps]
    assert [value(artifacts[t.key]) for t in plan.targets] == [245, 170]
    assert computed(events) == [s.label for s in plan.steps]
    assert [e.label for e in events if isinstance(e, StepFinished)] == computed(events)
    assert failed_attempts(store.journal) == (0, 0.0)
    assert [e["event"] for e in store.journal.read()] == ["started", "finished"] * 14


def test_the_second_time_nothing_is_computed(store):
    first, events = run(ops.diamond(), store), []
    assert run(ops.diamond(), store, events) == first
    assert [type(e) for e in events] == [StepFinished] * 14
    assert all(e.cached for e in events)


def test_what_only_cached_steps_need_is_not_computed(store):
    plan = ops.diamond()
    first = run(plan, store)
    for step in plan.steps:
        if step not in plan.targets:
            store.discard(step.key)
    events = []
    assert list(run(plan, store, events)) == [t.key for t in plan.targets]
    assert computed(events) == []
    store.discard(plan.targets[1].key)  # needs 30 <- 20, 21 <- 10..13 <- 0..3, but neither 31 nor 40
    again = run(plan, store, events := [])
    assert sorted(computed(events)) == sorted(f"sum {n}" for n in [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 30, 41])
    assert again[plan.targets[1].key].digest == first[plan.targets[1].key].digest


def test_a_damaged_input_is_found_before_it_is_used_and_made_anew(store):
    first = ops.number(1, label="first")
    path = run(Plan.of([first]), store)[first.key].path
    (path / "number").write_text("7")
    second = Plan.of([ops.number(2, first)])
    with pytest.raises(StepFailedError, match=r"number: found 1 bytes.*run again"):
        run(second, store)
    assert value(run(second, store)[second.targets[0].key]) == 3


def test_leaves_are_read_where_they_are(store, tmp_path):
    (tmp_path / "n").write_text("5")
    step = ops.number(1, Leaf("a" * 64, tmp_path / "n", "rows", "n"))
    assert value(run(Plan.of([step]), store)[step.key]) == 6


def test_cost_and_provenance_are_kept(store):
    first = ops.number(1, label="one")
    second = ops.number(2, first, label="two", pause=0.05)
    artifacts = run(Plan.of([second]), store)
    made = artifacts[second.key]
    assert made.cost["examples"] == 2
    assert 0.05 <= made.cost["seconds"] < 10
    assert made.cost["peak_memory"] > 1_000_000
    made_from = {"params": dict(second.params), "inputs": {"numbers": [first.key]}}
    assert made.meta == {"label": "two", **made_from, "content_key": content_key(second, artifacts)}


def test_what_was_done_on_the_same_content_is_not_done_again(store, tmp_path):
    counter = str(tmp_path / "count")
    first, second = ops.number(3, label="x"), ops.number(3, label="y", pause=0.001)
    old, new = ops.number(5, first, count=counter), ops.number(5, second, count=counter, label="again")
    assert new.key != old.key
    done = run(Plan.of([old]), store)[old.key]
    events = []
    made = run(Plan.of([new]), store, events)[new.key]
    assert computed(events) == ["y"]
    assert (tmp_path / "count").read_text() == "1\n"
    assert (made.digest, made.cost, made.meta["label"]) == (done.digest, done.cost, "again")
    assert store.get(new.key) == made
    store.verify(made)


def test_a_damaged_twin_is_no_twin(store, tmp_path):
    counter = str(tmp_path / "count")
    old = ops.number(5, ops.number(3), count=counter)
    done = run(Plan.of([old]), store)[old.key]
    (done.path / "number").write_text("7")
    new = ops.number(5, ops.number(3, pause=0.001), count=counter)
    assert value(run(Plan.of([new]), store)[new.key]) == 8
    assert (tmp_path / "count").read_text() == "1\n1\n"


def test_what_a_process_does_once_is_in_no_cost(store, monkeypatch):
    """A clock that only the operation and its preparation move: imports and compilation are not the first step's."""
    now = [0.0]
    monkeypatch.setattr(execute.time, "perf_counter", lambda: now[0])

    def prepare(params):
        now[0] += 100.0 * params["plus"]

    def run(job):
        now[0] += 1.0
        return ops.add(job)

    changed = dataclasses.replace(OPERATIONS["t-sum"], run=run, prepare=prepare)
    monkeypatch.setitem(OPERATIONS._items, "t-sum", changed)
    step = Step("t-sum", {"plus": 3})
    (artifact,) = run_plan(Plan.of([step]), store, InlineExecutor()).values()
    assert now[0] == 301.0 and artifact.cost["seconds"] == 1.0


def test_progress_is_throttled(store):
    heard = []

    def listen(event):
        if isinstance(event, StepProgress):
            heard.append((event.fraction, time.monotonic(), event.message))

    run_plan(Plan.of([ops.number(1, pause=0.5)]), store, InlineExecutor(), on_event=listen)
    assert len(heard) >= 3
    assert heard == sorted(heard)
    assert {message for *_, message in heard} == {"adding"}
    assert all(later[1] - earlier[1] > 0.09 for earlier, later in pairwise(heard))


def test_an_input_that_is_gone_is_named(store, tmp_path):
    step = ops.number(1, Leaf("a" * 64, tmp_path / "gone.parquet", "rows", "n"))
    with pytest.raises(StepFailedError, match=r"gone\.parquet: the input 'numbers' is not there"):
        run(Plan.of([step]), store)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("bug", r"step 'bad' failed: ValueError: no such number\n  File .*graph_operations\.py"),
        ("usage", r"step 'bad' failed: rows\.csv, row 3: no label$"),
        ("exit", r"step 'bad' failed: SystemExit: 3"),
        ("not a cost", r"returned None, expected a Cost"),
    ],
)
def test_a_failing_step(store, how, message):
    bad = Step("t-fail", {"how": how}, {}, "bad")
    good = ops.number(1)
    events = []
    with pytest.raises(StepFailedError, match=message):
        run(Plan.of([good, ops.number(2, bad), bad]), store, events)
    assert store.get(good.key) is not None
    assert store.get(bad.key) is None
    assert [e.retried for e in events if isinstance(e, StepFailed)] == [False]
    assert failed_attempts(store.journal)[0] == 1
    assert list(store.root.glob("tmp/*/*")) == []  # nothing is left lying about
    assert isinstance(bad.params, dict)


def test_ctrl_c_in_the_middle_is_passed_on_and_the_run_goes_on_later(store):
    class Interrupting(InlineExecutor):
        def wait(self, on_progress):
            if len(store.journal.read()) > 6:
                raise KeyboardInterrupt
            return super().wait(on_progress)

    plan = ops.diamond()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, store, Interrupting())
    assert store.journal.read()[-1]["kind"] == "interrupted"
    assert failed_attempts(store.journal)[0] == 1
    run(plan, store, events := [])
    assert len(computed(events)) == 11


def test_killed_attempts_are_counted_to_their_last_sign_of_life(store):
    def line(event, attempt, run, time, **more):
        store.journal.append({"event": event, "attempt": attempt, "run": run, "time": time, "key": "k", **more})

    line("started", "a1", "first", 100.0)
    line("started", "a2", "first", 101.0)
    line("finished", "a2", "first", 104.5, seconds=3.5)  # then the run was killed, a1 with it
    line("started", "a3", "second", 9000.0)
    store.journal.append({"event": "test-opened"})
    line("failed", "a3", "second", 9002.0, seconds=2.0, kind="raised")
    line("started", "a4", "second", 9003.0)  # killed at once
    assert failed_attempts(store.journal) == (3, 4.5 + 2.0)


def test_a_step_without_a_label_is_named_by_its_operation(store):
    with pytest.raises(StepFailedError, match="step 't-fail' failed"):
        run(Plan.of([Step("t-fail", {"how": "bug"})]), store)


def test_a_relative_store_is_the_same_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = ops.number(1)
    assert run(Plan.of([step]), Store(Path("here")))[step.key].path.is_absolute()
    assert Store(tmp_path / "here").get(step.key) is not None


@pytest.mark.parametrize(("how", "shown"), [("bug", "ValueError"), ("usage", "no label"), ("value", "row 3")])
def test_what_fails_on_private_rows_is_told_without_their_values(store, tmp_path, how, shown):
    rows = Leaf("1" * 64, tmp_path / "rows", "rows", "north adapt", "north")
    rows.path.write_text("secret")
    with pytest.raises(StepFailedError) as e:
        run(Plan.of([Step("t-fail", {"how": how, "label": "ill"}, {"rows": (rows,)}, "bad")]), store)
    told = str(e.value) + store.journal.path.read_text()
    assert shown in told and "ValueError: " not in told and "secret" not in told
    if how == "bug":
        assert "graph_operations.py" in told and "its message is not shown" in told
    if how == "value":
        assert "a value is not 'ill'" in told
