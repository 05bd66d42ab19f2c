import os
import signal
import subprocess
import sys
import threading
import time

from tunemerge.store.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from tunemerge.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_told_at_once_or_waits(tmp_path):
    path = tmp_path / "sub" / "x.lock"
    order = []
    with locked(path) as held:
        assert held
        with locked(path, wait=False) as second:
            assert not second

        def wait_for_it():
            with locked(path):
                order.append("second")

        thread = threading.Thread(target=wait_for_it)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    with locked(path, wait=False) as held:
        assert held


def test_the_lock_is_free_at_once_after_its_holder_was_killed(tmp_path):
    path = tmp_path / "x.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with locked(path, wait=False) as held:
            assert not held
        os.kill(holder.pid, signal.SIGKILL)
        start = time.monotonic()
        with locked(path):
            assert time.monotonic() - start < 1


def test_an_exception_frees_the_lock(tmp_path):
    try:
        with locked(tmp_path / "x.lock"):
            raise RuntimeError
    except RuntimeError:
        pass
    with locked(tmp_path / "x.lock", wait=False) as held:
        assert held
