"""A tuning of MiniLM that is killed in the middle (SIGKILL) and asked for again, beside one that nobody disturbs.

    python benchmarks/kills.py [--epochs 5] [--kills 2] [--after 5]

Reviews in batches of 32, one thread, dropout as the model has it. Each kill comes `--after` seconds after a new
checkpoint, wherever the training then is. Printed are the seconds that were trained in vain at each kill (since its
checkpoint), the wall times of the undisturbed run and of all attempts, and whether all files of both models
have the same bits but for the seconds in the record.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tune import BASE, LABELS, reviews
from tunemerge.store.digest import digest_file
from tunemerge.tune.checkpoints import COMPLETE
from tunemerge.tune.record import CURVE_FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--after", type=float, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        write_splits(work)
        begun = time.perf_counter()
        finish(start(work, "alone", given.epochs))
        alone = time.perf_counter() - begun
        print(f"undisturbed: {alone:.1f} s", flush=True)
        attempts = []
        for _ in range(given.kills):
            attempts.append(killed(work, given.epochs, given.after))
        begun = time.perf_counter()
        finish(start(work, "killed", given.epochs))
        attempts.append(time.perf_counter() - begun)
        print(f"attempts: {', '.join(f'{s:.1f}' for s in attempts)} s")
        one, other = contents(work / "alone"), contents(work / "killed")
        print(f"{len(one)} files, the same bits: {one == other}")


def write_splits(work: Path) -> None:
    """2,400 reviews to train on, and 300 others for validation."""
    rows = [(row["text"], LABELS[int(row["label"])]) for row in reviews()]
    for name, some in (("rows", rows[::5] + rows[1::5] + rows[2::5] + rows[3::5]), ("held_out", rows[4::10])):
        with (work / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *some])


def start(work: Path, out: str, epochs: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunemerge", "tune", BASE, "rows.csv", out, "--validation", "held_out.csv"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, "--epochs", str(epochs)], cwd=work, env=environment, stdout=quiet, stderr=quiet)


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise SystemExit(f"the tuning ended with exit code {process.returncode}")


def killed(work: Path, epochs: float, after: float) -> float:
    """Start the tuning, wait for a new checkpoint, kill it; the seconds that it had."""
    begun, there = time.perf_counter(), newest(work)
    process = start(work, "killed", epochs)
    while newest(work) == there:
        if process.poll() is not None:
            raise SystemExit("the tuning ended before it could be killed: take more epochs")
        time.sleep(0.05)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seconds, checkpoint = time.perf_counter() - begun, newest(work)
    assert checkpoint is not None and not (work / "killed").exists()
    vain = time.time() - (checkpoint / COMPLETE).stat().st_mtime
    print(f"killed after {seconds:.1f} s, {vain:.1f} s after checkpoint {checkpoint.name}", flush=True)
    return seconds


def newest(work: Path) -> Path | None:
    return max((file.parent for file in work.glob(f".killed.training/step-*/{COMPLETE}")), default=None)


def contents(folder: Path) -> dict[str, str]:
    """Digests of a model's files; of its record all but the seconds."""
    found = {str(f.relative_to(folder)): digest_file(f) for f in folder.rglob("*") if f.is_file()}
    record = json.loads((folder / CURVE_FILE).read_text())
    del record["cost"]["seconds"]
    return {**found, CURVE_FILE: json.dumps(record)}


if __name__ == "__main__":
    main()
