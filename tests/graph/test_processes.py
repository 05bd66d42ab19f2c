"""Eight processes that run the same plan on one store at once: every step is computed once, and all get the same."""

import os
import subprocess
import sys
from collections import Counter

import graph_operations as ops

from tunemerge.graph.attempts import failed_attempts
from tunemerge.store.artifacts import Store
from tunemerge.store.holds import is_live

PROCESSES = 8
DRIVER = """
import sys
import graph_operations
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.graph.run import run_plan
from tunemerge.store.artifacts import Store
store = Store(sys.argv[1])
print("ready", flush=True)
input()
made = run_plan(graph_operations.diamond(pause=0.05), store, InlineExecutor())
print(sorted((key, artifact.digest) for key, artifact in made.items()))
"""


def start(root):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DRIVER, str(root)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_each_step_is_computed_once(tmp_path):
    store, plan = Store(tmp_path / "store"), ops.diamond(0.05)
    runs = [start(store.root) for _ in range(PROCESSES)]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    said = {run.communicate(timeout=120)[0] for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert len(said) == 1 and len(eval(said.pop())) == len(plan.steps)
    lines = store.journal.read()
    computed = Counter(e["key"] for e in lines if e["event"] == "finished" and not e["cached"])
    assert computed == {step.key: 1 for step in plan.steps}
    assert len({e["run"] for e in lines}) > 1  # the work was shared
    assert failed_attempts(store.journal) == (0, 0.0)


def test_a_live_attempt_of_another_process_is_no_failed_one(tmp_path):
    store = Store(tmp_path / "store")
    with start(store.root) as run:
        run.stdout.readline()
        run.stdin.write("go\n")
        run.stdin.flush()
        while not any(e["event"] == "started" for e in store.journal.read()):
            assert run.poll() is None
        open_now = store.journal.read()
        live = failed_attempts(store.journal, lambda name: is_live(store.root, name))
        run.kill()
    assert len([e for e in open_now if e["event"] == "started"]) >= 1
    assert live == (0, 0.0)
    assert failed_attempts(store.journal, lambda name: is_live(store.root, name))[0] == 1
