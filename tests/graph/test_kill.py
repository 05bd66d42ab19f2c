"""Killed at any moment and run again, a plan goes on where it was and ends with the same digests."""

import errno
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import graph_operations as ops
import pytest

from tunemerge.errors import StepFailedError, StoreError
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.graph.plan import Plan
from tunemerge.graph.run import StepStarted, failed_attempts, run_plan
from tunemerge.store.artifacts import Store

PAUSE = 0.04
MEMORY = Path("/dev/shm")
DRIVER = f"""
import sys
import graph_operations
from tunemerge.graph.executors.local import LocalExecutor
from tunemerge.graph.run import run_plan
from tunemerge.store.artifacts import Store
with LocalExecutor(2) as executor:
    run_plan(graph_operations.diamond(pause={PAUSE}), Store(sys.argv[1]), executor)
"""


@pytest.fixture
def folder(tmp_path):
    """In memory where there is such a place: killing a process asks nothing of fsync, which makes up the time."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as path:
        yield Path(path)


def digests(plan, store):
    """The digests of all steps, each verified byte by byte."""
    artifacts = [store.get(step.key) for step in plan.steps]
    for artifact in artifacts:
        store.verify(artifact)
    return [artifact.digest for artifact in artifacts]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The digests of a run that nobody killed, and the seconds that it took."""
    store, begin = Store(tmp_path_factory.mktemp("undisturbed")), time.monotonic()
    with start(store.root) as run:
        assert run.wait() == 0
    return digests(ops.diamond(PAUSE), store), time.monotonic() - begin


def start(root):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DRIVER, str(root)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_a_start(run, journal, before):
    while run.poll() is None and len(journal.read()) == before:
        time.sleep(0.005)


def workers_of(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def computed_too_often(store):
    """How many times a step was computed to its end more than once."""
    ends = [line["key"] for line in store.journal.read() if line["event"] == "finished" and not line["cached"]]
    return len(ends) - len(set(ends))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_the_whole_run_ended_at_random_moments(folder, undisturbed, sent):
    (sound, seconds), plan, draw, kills = undisturbed, ops.diamond(PAUSE), random.Random(1), 0
    for trial in range(2):
        store, window = Store(folder / str(trial)), 0.5 * seconds
        while True:
            with start(store.root) as run:
                wait_for_a_start(run, store.journal, len(store.journal.read()))
                time.sleep(draw.uniform(0, window))
                children = workers_of(run.pid)
                run.send_signal(sent)
                code = run.wait(2)  # Ctrl-C must be as quick
                said = run.stderr.read()
            if code == 0:
                break
            assert code == -sent, said
            assert ops.gone_within(2, children)
            kills += 1
            window += 0.1 * seconds  # so that it ends on a machine that has slowed down, too
        assert digests(plan, store) == sound
        assert computed_too_often(store) == 0
    assert kills >= 2


def test_workers_killed_at_random_moments(folder, undisturbed):
    (sound, seconds), plan, draw, kills = undisturbed, ops.diamond(PAUSE), random.Random(2), 0
    for trial in range(2):
        store = Store(folder / str(trial))
        for attempt in range(20):
            with start(store.root) as run:
                wait_for_a_start(run, store.journal, len(store.journal.read()))
                while run.poll() is None:
                    time.sleep(draw.uniform(0, (0.4 + 0.1 * attempt) * seconds))
                    kills += kill_a_worker(run.pid, draw)
                said = run.stderr.read()
            if run.returncode == 0:
                break
            assert "failed, 2 times: its worker was killed by SIGKILL" in said  # one step hit twice
        assert digests(plan, store) == sound
        assert computed_too_often(store) == 0
        assert failed_attempts(store.journal)[0] >= 1
    assert kills >= 2


def kill_a_worker(pid, draw):
    try:
        os.kill(draw.choice(workers_of(pid)), signal.SIGKILL)
    except (OSError, IndexError):  # none there, or all over
        return 0
    return 1


CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "scandir", "unlink", "rmdir", "close", "ftruncate")
FAILING_CALLS = tuple(name for name in CALLS if name != "close")  # a close that fails has closed all the same


def run_killed_at(call_number, plan, root):
    """Run the plan in a forked process that kills itself right before its n-th call to the system; True if it did."""
    child = os.fork()
    if child == 0:
        try:
            made = [0]

            def counted(real):
                def call(*args, **kwargs):
                    made[0] += 1
                    if made[0] == call_number:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                return call

            for name in CALLS:
                setattr(os, name, counted(getattr(os, name)))
            io.open = counted(io.open)
            run_plan(plan, Store(root), InlineExecutor())
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def test_killed_before_every_single_call_to_the_system(folder):
    first = ops.number(1)
    plan = Plan.of([ops.number(2, first)])
    sound = Store(folder / "sound")
    run_plan(plan, sound, InlineExecutor())
    call, again = 0, []
    while True:
        call += 1
        root = folder / str(call)
        if not run_killed_at(call, plan, root):
            break
        store, events = Store(root), []
        before = {s.key for s in plan.steps if store.get(s.key)}
        run_plan(plan, store, InlineExecutor(), on_event=events.append)
        started = [e.step.key for e in events if isinstance(e, StepStarted)]
        assert digests(plan, store) == digests(plan, sound)
        assert before.isdisjoint(started)  # what was finished is never done again
        assert len(list((root / "tmp").glob("*/*"))) == 0  # and nothing is left lying about
        failed_attempts(store.journal)
        again.append(len(started))
    assert call > 80
    assert again[0] == 2
    assert again[-1] == 0
    assert again == sorted(again, reverse=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_single_call_to_the_system_fails_once(folder, monkeypatch, code):
    first = ops.number(1)
    plan = Plan.of([ops.number(2, first)])
    sound = Store(folder / "sound")
    run_plan(plan, sound, InlineExecutor())
    number, failures = 0, 0
    while True:
        number += 1
        store, made = Store(folder / str(number)), [0]
        with monkeypatch.context() as patch:

            def failing(real, made=made, number=number):
                def call(*args, **kwargs):
                    made[0] += 1
                    if made[0] == number:
                        raise OSError(code, os.strerror(code), "injected")
                    return real(*args, **kwargs)

                return call

            for name in FAILING_CALLS:
                patch.setattr(os, name, failing(getattr(os, name)))
            patch.setattr(io, "open", failing(io.open))
            try:
                run_plan(plan, store, InlineExecutor())
            except (StepFailedError, StoreError) as problem:
                failures += 1
                assert os.strerror(code) in str(problem)
        run_plan(plan, store, InlineExecutor())
        assert digests(plan, store) == digests(plan, sound)
        assert failed_attempts(store.journal)[0] <= 1
        if made[0] < number:
            break
    assert failures > 40


def test_killed_again_and_again_on_one_store(folder):
    """Each run gets a few calls further than a single step needs, then dies."""
    plan, draw = ops.diamond(), random.Random(3)
    root, kills = folder / "store", 0
    while run_killed_at(draw.randrange(20, 140), plan, root):
        kills += 1
        assert kills < 300
    sound = Store(folder / "sound")
    run_plan(plan, sound, InlineExecutor())
    assert digests(plan, Store(root)) == digests(plan, sound)
    assert kills >= 8
    assert failed_attempts(Store(root).journal)[0] <= kills
