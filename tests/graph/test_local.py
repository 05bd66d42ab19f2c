import os
import re
import subprocess
import sys
import threading
import time

import graph_operations as ops
import pytest

from tunemerge.errors import StepFailedError
from tunemerge.graph.executors.local import LocalExecutor
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
from tunemerge.store.artifacts import Store


@pytest.fixture(scope="module")
def executor():
    with LocalExecutor(2) as warm:
        yield warm


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_graph_is_computed_side_by_side(executor, store):
    warm = [Step("t-environment", {"n": n}) for n in range(2)]
    run_plan(Plan.of(warm), store, executor)
    plan, events = ops.diamond(pause=0.2), []
    artifacts = run_plan(plan, store, executor, on_event=events.append)
    assert [(artifacts[t.key].path / "number").read_text() for t in plan.targets] == ["245", "170"]
    running, most = set(), 0
    for event in events:
        if isinstance(event, StepStarted):
            running.add(event.step.key)
        elif isinstance(event, StepFinished):
            running.discard(event.step.key)
        most = max(most, len(running))
    assert most == 2
    assert sum(isinstance(e, StepProgress) for e in events) >= 14


def test_workers_are_warm_single_threaded_and_their_prints_go_to_a_log(executor, store, capfd):
    steps = [Step("t-environment", {"n": n}, {"after": (ops.number(n),)}) for n in range(6)]
    artifacts = run_plan(Plan.of(steps), store, executor)
    assert {(artifacts[s.key].path / "threads").read_text() for s in steps} == {"1"}
    pids = {(artifacts[s.key].path / "pid").read_text() for s in steps}
    assert len(pids) <= 2
    assert str(os.getpid()) not in pids
    assert store.log(steps[0].key).read_text() == "said on stdout\nsaid on stderr\n"
    assert not store.log(ops.number(1).key).exists()  # said nothing
    assert capfd.readouterr().out == ""


def test_what_runs_beside_a_failing_step_is_published(executor, store):
    slow = ops.number(1, pause=0.5)
    bad = Step("t-fail", {"how": "bug", "pause": 0.1}, {}, "bad")
    never = ops.number(2, slow)
    with pytest.raises(StepFailedError, match="'bad' failed: ValueError"):
        run_plan(Plan.of([bad, never]), store, executor)
    assert store.get(slow.key) is not None
    assert store.get(never.key) is None


def test_a_step_whose_worker_dies_is_tried_again_in_a_new_one(executor, store, tmp_path):
    step = Step("t-die", {"count": str(tmp_path / "pids"), "times": 1, "signal": "SIGKILL"}, {}, "frail")
    events = []
    assert step.key in run_plan(Plan.of([step]), store, executor, on_event=events.append)
    (failure,) = [e for e in events if isinstance(e, StepFailed)]
    assert failure.retried
    assert re.match(r"its worker was killed by SIGKILL \(often: .*memory\); it had printed", failure.message)
    assert len(set((tmp_path / "pids").read_text().split())) == 2
    count, seconds = failed_attempts(store.journal)
    assert count == 1
    assert 0 < seconds < 10


def test_a_step_that_kills_every_worker_is_given_up(executor, store, tmp_path):
    step = Step("t-die", {"count": str(tmp_path / "pids"), "times": 9, "signal": "SIGSEGV"}, {}, "fatal")
    with pytest.raises(StepFailedError) as caught:
        run_plan(Plan.of([step]), store, executor)
    said = str(caught.value)
    assert said.startswith("step 'fatal' failed, 2 times: its worker was killed by SIGSEGV; it had printed")
    assert "about to die" in said
    assert "graph_operations.py" in said  # the faulthandler's stack
    assert failed_attempts(store.journal)[0] == 2
    assert run_plan(Plan.of([ops.number(1)]), store, executor)  # and it goes on


def test_what_a_dead_worker_printed_of_private_rows_is_not_shown(executor, store, tmp_path):
    rows = Leaf("1" * 64, tmp_path / "rows", "rows", "north adapt", "north")
    rows.path.write_text("secret")
    params = {"count": str(tmp_path / "pids"), "times": 9, "signal": "SIGKILL"}
    with pytest.raises(StepFailedError, match=r"killed by SIGKILL.*what it printed is not shown") as caught:
        run_plan(Plan.of([Step("t-die", params, {"rows": (rows,)}, "dies")]), store, executor)
    assert "about to die" not in str(caught.value) + store.journal.path.read_text()


def test_a_worker_that_dies_idle_is_replaced(store):
    with LocalExecutor(1) as executor:
        first = Step("t-environment", {})
        path = run_plan(Plan.of([first]), store, executor)[first.key].path
        os.kill(int((path / "pid").read_text()), 9)
        events = []
        second = ops.number(1)
        assert second.key in run_plan(Plan.of([second]), store, executor, on_event=events.append)
        assert not [e for e in events if isinstance(e, StepFailed) and not e.retried]


def test_an_operation_that_a_worker_cannot_import_is_a_clear_error(store, monkeypatch):
    monkeypatch.setattr(ops.other, "__module__", "no_such_module")
    with LocalExecutor(1) as executor, pytest.raises(StepFailedError, match="No module named 'no_such_module'"):
        run_plan(Plan.of([Step("t-other", {})]), store, executor)


def test_a_large_request_goes_through_and_a_worker_that_cannot_start_is_reported(store, monkeypatch):
    big = {"plus": 1, "text": "x" * 1_000_000}
    with LocalExecutor(1) as executor:
        assert run_plan(Plan.of([Step("t-sum", big)]), store, executor)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with LocalExecutor(1) as executor, pytest.raises(StepFailedError, match="ended with exit code 1"):
        run_plan(Plan.of([Step("t-sum", {**big, "plus": 2})]), store, executor)


def test_peak_memory_is_that_of_the_step(store):
    with LocalExecutor(1) as executor:
        large, small = Step("t-memory", {"bytes": 200_000_000}), Step("t-memory", {"bytes": 10})
        artifacts = run_plan(Plan.of([large, small]), store, executor)
    assert artifacts[large.key].cost["peak_memory"] > 200_000_000
    if sys.platform == "linux":
        assert artifacts[small.key].cost["peak_memory"] < 150_000_000


def test_a_thread_may_run_a_plan_and_end(store):
    """The kernel would kill workers at the end of the thread that started them."""
    with LocalExecutor(1) as executor:
        first, second = Step("t-environment", {"n": 1}), Step("t-environment", {"n": 2})
        thread = threading.Thread(target=run_plan, args=(Plan.of([first]), store, executor))
        thread.start()
        thread.join()
        time.sleep(0.1)
        artifacts = run_plan(Plan.of([first, second]), store, executor)
        assert len({(a.path / "pid").read_text() for a in artifacts.values()}) == 1
    assert failed_attempts(store.journal) == (0, 0.0)


def test_an_exception_of_the_watcher_ends_the_workers_and_their_children(store, tmp_path):
    pids = tmp_path / "pids"

    def watch(event):
        if isinstance(event, StepStarted):
            while not (pids.exists() and pids.read_text().endswith("\n")):
                time.sleep(0.01)
            raise BrokenPipeError("the display is gone")

    with LocalExecutor(1) as executor:
        with pytest.raises(BrokenPipeError):
            run_plan(Plan.of([Step("t-hang", {"pids": str(pids)})]), store, executor, on_event=watch)
        assert ops.gone_within(1, map(int, pids.read_text().split()))


DRIVER = """
import sys
import graph_operations
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.graph.plan import Plan
from tunemerge.graph.run import run_plan
from tunemerge.graph.step import Step
from tunemerge.store.artifacts import Store
with LocalExecutor(2) as executor:
    run_plan(Plan.of([Step("t-hang", {"pids": sys.argv[2], "n": n}) for n in range(2)]), Store(sys.argv[1]), executor)
"""


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", -2), ("SIGKILL", -9), ("SIGTERM", -15)])
def test_workers_end_with_the_run_and_the_locks_are_free(tmp_path, sent, code):
    import signal

    root, pids = tmp_path / "store", tmp_path / "pids"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(root), str(pids)], env=environment, stderr=subprocess.DEVNULL
    ) as run:
        end = time.monotonic() + 20
        while not pids.exists() or len(pids.read_text().splitlines()) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        start = time.monotonic()
        run.send_signal(getattr(signal, sent))
        assert run.wait(5) == code
        workers = [int(line.split()[0]) for line in pids.read_text().splitlines()]
        assert ops.gone_within(2 - (time.monotonic() - start), workers)
    store = Store(root)
    for n in range(2):
        with store.lock(Step("t-hang", {"pids": str(pids), "n": n}).key):
            pass
    for line in pids.read_text().splitlines():  # sleepers of a killed run are nobody's any more
        child = int(line.split()[1])
        if ops.alive(child):
            os.kill(child, 9)
    assert failed_attempts(store.journal)[0] == 2


def test_two_processes_compute_a_step_once(tmp_path):
    program = DRIVER.replace(
        'Step("t-hang", {"pids": sys.argv[2], "n": n})',
        "graph_operations.number(n, pause=0.3, count=sys.argv[2] + str(n))",
    ).replace("range(2)", "range(6)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path / "store"), str(tmp_path / "count")]
    runs = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert [(tmp_path / f"count{n}").read_text() for n in range(6)] == ["1\n"] * 6
    lines = Store(tmp_path / "store").journal.read()
    assert sum(line["event"] == "finished" and not line["cached"] for line in lines) == 6
