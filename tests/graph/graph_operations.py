"""Cheap operations for the tests of the graph; workers import this module by name."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tunemerge.errors import UsageError
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.graph.plan import Plan
from tunemerge.graph.step import Leaf, Step

ENVIRONMENT = {"numbers": "exact"}


@operation("t-sum", version=1, environment=lambda: ENVIRONMENT)
def add(job: Job) -> Cost:
    """The sum of the inputs' numbers and `plus`; sleeps `pause` seconds in ten bits."""
    for part in range(10):
        time.sleep(job.params.get("pause", 0.0) / 10)
        job.progress(part / 10, "adding")
    paths = [path for paths in job.inputs.values() for path in paths]
    numbers = [int(((p / "number") if p.is_dir() else p).read_text()) for p in paths]
    (job.out / "number").write_text(str(sum(numbers) + job.params["plus"]))
    (job.out / "parts").mkdir()
    (job.out / "parts" / "log").write_text("\n".join(map(str, numbers)) * 50)
    if "count" in job.params:
        with Path(job.params["count"]).open("a") as file:
            file.write("1\n")
    return Cost(examples=job.params["plus"])


@operation("t-other", version=1)
def other(job: Job) -> Cost:
    (job.out / "number").write_text("0")
    return Cost()


@operation("t-fail", version=1)
def fail(job: Job) -> Cost:
    time.sleep(job.params.get("pause", 0.0))
    (job.out / "half").write_text("half")
    print("about to fail")
    match job.params["how"]:
        case "bug":
            raise ValueError("no such number")
        case "usage":
            raise UsageError("rows.csv, row 3: no label")
        case "value":
            raise UsageError(f"row 3: 'secret' is not {job.params['label']!r}")
        case "exit":
            raise SystemExit(3)
        case "not a cost":
            return None
    raise AssertionError(job.params["how"])


@operation("t-die", version=1)
def die(job: Job) -> Cost:
    """Kills its process by `signal`, the first `times` times; `count` is the file that counts."""
    with Path(job.params["count"]).open("a+") as file:
        file.seek(0)
        before = len(file.readlines())
        file.write(f"{os.getpid()}\n")
    print("about to die", flush=True)
    if before < job.params["times"]:
        os.kill(os.getpid(), getattr(signal, job.params["signal"]))
        time.sleep(10)
    (job.out / "number").write_text("1")
    return Cost()


@operation("t-hang", version=1)
def hang(job: Job) -> Cost:
    """Starts a child, says the pids in the file `pids`, and sleeps for a minute."""
    child = subprocess.Popen(["sleep", "60"])
    with Path(job.params["pids"]).open("a") as file:
        file.write(f"{os.getpid()} {child.pid}\n")
    time.sleep(60)
    return Cost()


@operation("t-environment", version=1)
def environment(job: Job) -> Cost:
    (job.out / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
    (job.out / "pid").write_text(str(os.getpid()))
    print("said on stdout")
    os.write(2, b"said on stderr\n")
    return Cost()


@operation("t-memory", version=1)
def memory(job: Job) -> Cost:
    block = b"x" * job.params["bytes"]
    (job.out / "size").write_text(str(len(block)))
    return Cost()


def number(plus: int, *inputs: Leaf | Step, label: str = "", **params) -> Step:
    return Step("t-sum", {"plus": plus, **params}, {"numbers": inputs} if inputs else {}, label or f"sum {plus}")


def diamond(pause: float = 0.0) -> Plan:
    """Fourteen steps in five layers, two targets; the larger target's number is 245."""
    first = [number(n, pause=pause) for n in range(4)]
    second = [number(10 + n, first[n], first[(n + 1) % 4], pause=pause) for n in range(4)]
    third = [number(20, *second[:2], pause=pause), number(21, *second[2:], pause=pause)]
    fourth = [number(30, *third, pause=pause), number(31, third[0], first[0], pause=pause)]
    return Plan.of([number(40, *fourth, pause=pause), number(41, fourth[0], pause=pause)])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone_within(seconds, pids):
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.01)
    return not any(map(alive, pids))
