"""A tuning that is killed in the middle goes on from its last complete checkpoint, and ends with the same bits."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import SPEC, RowsFactory
from tunemerge.store.digest import digest_folder
from tunemerge.tasks.task import TASKS
from tunemerge.tune.checkpoints import COMPLETE, Cadence, Checkpoint, read_checkpoint, write_checkpoint
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.diverged import DivergedError
from tunemerge.tune.model import Tuned, tune_model
from tunemerge.tune.order import training_order

EXAMPLES = 15 * 8 - 3  # the last batch is smaller
KILLS = int(os.environ.get("TUNEMERGE_KILLS", "4"))


class KilledError(Exception):
    pass


@pytest.fixture
def start(tiny_bert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "start"
    folder.mkdir()
    TASKS[SPEC.kind].initialise(tiny_bert, folder, SPEC, 0, dropout=0.1)
    return folder


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(Cadence, "due", lambda self: True)


def _config(**settings: object) -> TuneConfig:
    same = {"batch_size": 8, "learning_rate": 3e-3, "evaluations": 5}
    return TuneConfig.model_validate({**same, **settings})


def _tune(start: Path, out: Path, rows: list[Path], config: TuneConfig, stop: int = 0, unfinished: Path | None = None,
          identity: str = "") -> Tuned:  # fmt: skip
    def progress(fraction: float, message: str) -> None:
        if stop and message.startswith(f"step {stop}/"):
            raise KilledError

    return tune_model(
        start, out, rows[:1], rows[1:], task=SPEC, seed=3, examples=EXAMPLES, config=config, progress=progress,
        unfinished=unfinished, identity=identity,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"micro_batch": 4, "select": "last"},
        {"method": "lora"},
        {"l2_sp": 0.1, "layer_decay": 0.9, "sam": 0.05, "average": {"method": "ema"}},
    ],
    ids=["full", "accumulated", "lora", "regularised"],
)
def test_a_tuning_that_goes_on_ends_with_the_same_bits(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory, monkeypatch: pytest.MonkeyPatch, often: None,
    settings: dict[str, object],
) -> None:  # fmt: skip
    monkeypatch.setattr("tunemerge.tune.keeper._SECONDS_BETWEEN_MESSAGES", 0.0)
    rows, config = [rows_parquet(40, 1, "train"), rows_parquet(16, 2, "validation")], _config(**settings)
    whole = _tune(start, tmp_path / "whole", rows, config)
    for stop in (5, 12):
        with pytest.raises(KilledError):
            _tune(start, tmp_path / f"cut{stop}", rows, config, stop, tmp_path / "unfinished")
        # The checkpoint of step n is written after its message, at which the run was stopped.
        assert [p.name for p in (tmp_path / "unfinished").iterdir()] == [f"step-{stop - 1:08d}"]
    again = _tune(start, tmp_path / "again", rows, config, unfinished=tmp_path / "unfinished")
    assert digest_folder(tmp_path / "again") == digest_folder(tmp_path / "whole")
    assert again.curve == whole.curve and again.chosen_step == whole.chosen_step
    counts = {k: v for k, v in whole.cost.as_dict().items() if k != "seconds"}
    assert {k: v for k, v in again.cost.as_dict().items() if k != "seconds"} == counts
    assert again.cost.seconds > 0 == whole.cost.seconds  # what was done before the kill is not forgotten


def test_a_checkpoint_of_another_tuning_is_not_taken(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory, monkeypatch: pytest.MonkeyPatch, often: None
) -> None:
    monkeypatch.setattr("tunemerge.tune.keeper._SECONDS_BETWEEN_MESSAGES", 0.0)
    rows = [rows_parquet(40, 1, "train")]
    with pytest.raises(KilledError):
        _tune(start, tmp_path / "cut", rows, _config(), 5, tmp_path / "unfinished", "one")
    _tune(start, tmp_path / "plain", rows, _config(learning_rate=1e-3))
    _tune(start, tmp_path / "other", rows, _config(learning_rate=1e-3), 0, tmp_path / "unfinished", "other")
    assert digest_folder(tmp_path / "other") == digest_folder(tmp_path / "plain")


def test_what_is_incomplete_is_not_read(tmp_path: Path) -> None:
    import torch

    write_checkpoint(tmp_path, Checkpoint(3, {"a": torch.arange(4.0)}, {"n": 3}))
    write_checkpoint(tmp_path, Checkpoint(7, {"a": torch.ones(4)}, {"n": 7}))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000007"]
    shutil.copytree(tmp_path / "step-00000007", tmp_path / "step-00000009")
    shutil.copytree(tmp_path / "step-00000007", tmp_path / "step-00000011")
    (tmp_path / "step-00000009" / COMPLETE).unlink()
    with (tmp_path / "step-00000011" / "state.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, dict(found.values), found.tensors["a"].tolist()) == (7, {"n": 7}, [1, 1, 1, 1])
    shutil.rmtree(tmp_path / "step-00000007")
    assert read_checkpoint(tmp_path) is None


def test_short_steps_write_nothing_and_long_ones_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    cadence = Cadence(60.0, 1 / 50)
    now[0] += 59
    assert not cadence.due()
    now[0] += 1
    assert cadence.due()
    cadence.written(3.0)
    now[0] += 149
    assert not cadence.due()
    now[0] += 1
    assert cadence.due()


DRIVER = """
# Imports once, then forks for every line of standard input: the store to run the step in. Tells pid and ending.
import os
import sys
from pathlib import Path
from corpus import SPEC
from tunemerge.graph.executors.inline import InlineExecutor
from tunemerge.graph.plan import Plan
from tunemerge.graph.run import run_plan
from tunemerge.graph.step import Leaf, Step
from tunemerge.store.artifacts import Store
from tunemerge.store.digest import digest_file, digest_folder
from tunemerge.tasks import hub
from tunemerge.tune import operation  # registers the step
from tunemerge.tune.checkpoints import Cadence

folder = Path(sys.argv[1])
Cadence.due = lambda self: True
leaf = lambda path, role: Leaf((digest_folder(path)[0] if path.is_dir() else digest_file(path)), path, role, path.name)
tuning = {"batch_size": 8, "learning_rate": 3e-3, "evaluations": 5, "method": "full"}
params = {"task": SPEC.as_dict(), "seed": 3, "examples": 8 * 60, "tuning": tuning}
inputs = {"model": (leaf(folder / "start", "model"),), "train": (leaf(folder / "train.parquet", "rows"),),
          "validation": (leaf(folder / "validation.parquet", "rows"),)}
step = Step("tune", params, inputs, "tuned")
hub.prepare({})
for line in sys.stdin:
    child = os.fork()
    if not child:
        artifacts = run_plan(Plan.of([step]), Store(Path(line.strip())), InlineExecutor())
        print(artifacts[step.key].digest, flush=True)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def _steps(store: Path) -> list[int]:
    return [int(p.name.partition("-")[2]) for p in store.glob("unfinished/*/step-*")]


def test_killed_for_real_in_the_middle_of_a_step(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    rows_parquet(40, 1, "train"), rows_parquet(16, 2, "validation")
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    draw, store, reached = random.Random(1), tmp_path / "killed", 0
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout

        def begin(folder: Path) -> int:
            assert server.stdin
            print(folder, file=server.stdin, flush=True)
            return int(told())

        def told() -> str:
            assert server.stdout
            return server.stdout.readline().strip()

        begin(tmp_path / "whole")
        whole, code = told(), told()
        assert len(whole) == 64 and code == "0"
        for kill in range(KILLS):
            wanted = reached + draw.randint(1, 50 // KILLS)
            child = begin(store)
            while max(_steps(store), default=0) < wanted:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert int(told()) == signal.SIGKILL, f"kill {kill} came too late"
            before, reached = reached, max(_steps(store))
            assert reached >= wanted > before  # it went on from where it was, and came further
        begin(store)
        assert (told(), told()) == (whole, "0")
        server.stdin.close()
    assert not list(store.glob("unfinished/*"))
    manifest = next(store.glob("artifacts/*/*/manifest.json")).read_bytes()
    assert json.loads(manifest)["entry"]["cost"]["optimizer_steps"] == 60


def test_a_diverging_loss_keeps_the_last_good_state(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, unfinished = [rows_parquet(40, 1, "train"), rows_parquet(16, 2, "validation")], tmp_path / "unfinished"
    config = _config(schedule="constant", warmup=0, length_grouping=False, max_grad_norm=0.5)
    kind, batches = type(TASKS[SPEC.kind]), []

    def loss(self: object, model: object, outputs: Any, *more: Any) -> Any:
        batches.append(len(outputs))
        return plain(self, model, outputs, *more) * (float("nan") if len(batches) == 11 else 1)

    plain = kind.loss
    monkeypatch.setattr(kind, "loss", loss)
    with pytest.raises(DivergedError) as caught:
        _tune(start, tmp_path / "out", rows, config, unfinished=unfinished)
    (finding,) = caught.value.findings
    assert finding.code == "diverged" and caught.value.exit_code == 1
    order = training_order(np.ones(40, np.int64), EXAMPLES, 8, 3, grouping=False)[80:88] + 1
    named = ", ".join(map(str, order))
    assert finding.message == (
        f"the training loss became nan in step 11 of 15 at learning rate 0.003, batch 11: training rows {named}"
    )
    kept = re.search(r"the state after step (\d+), the last good one, is in (.*)$", finding.remedy)
    assert "lower learning_rate (0.003)" in finding.remedy and kept and int(kept[1]) in (3, 6, 9)
    monkeypatch.setattr(kind, "loss", plain)
    there = config.model_copy(update={"select": "last"})
    tune_model(start, tmp_path / "there", rows[:1], task=SPEC, seed=3, examples=int(kept[1]) * 8, config=there)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (Path(kept[2]) / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
