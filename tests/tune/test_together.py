"""A tuning in two processes is the tuning in one, up to rounding: same batches, same counts, same curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from small import write_table
from tunemerge.errors import UsageError
from tunemerge.tune.single import tune
from tunemerge.tune.together import Together

SETTINGS = {"batch_size": 8, "learning_rate": 1e-3, "dropout": 0.0, "precision": "float32", "evaluations": 3}


def test_shares_of_batches() -> None:
    order, places = np.arange(11), [Together(place, 2) for place in (0, 1)]
    assert [t.own_rows(order, 4).tolist() for t in places] == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10]]
    assert Together().own_rows(order, 4) is order
    with pytest.raises(UsageError, match="batch_size 5 can't be shared equally by 2"):
        places[0].own_rows(order, 5)
    with pytest.raises(UsageError, match="the last batch has 1 rows, too few for 2"):
        places[0].own_rows(np.arange(9), 4)


def test_two_processes_end_where_one_does(tmp_path: Path, tiny_bert: Path) -> None:
    for name, seed in (("rows", 1), ("held_out", 2)):
        write_table(tmp_path / f"{name}.csv", 43 if name == "rows" else 20, seed)
    more = {"micro_batch": 2, "sam": 0.05}
    rows, held_out = tmp_path / "rows.csv", tmp_path / "held_out.csv"
    alone = tune(tiny_bert, rows, tmp_path / "alone", validation=held_out, epochs=2, **SETTINGS, **more)
    given = [x for key, value in {**SETTINGS, **more}.items() for x in ("--set", f"{key}={value}")]
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tunemerge", "tune"]
    asked = [str(tiny_bert), "rows.csv", "together", "--validation", "held_out.csv", "--epochs", "2", *given]
    command = [sys.executable, "-m", *launch, *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    assert one.keys() == two.keys()
    assert max(float(np.abs(one[n] - two[n]).max()) for n in one) < 2e-5
    stored = json.loads((tmp_path / "together" / "tunemerge_tune.json").read_text())
    assert stored["chosen_step"] == alone.chosen_step
    for there, here in zip(stored["curve"], alone.curve, strict=True):
        assert (there["step"], there["examples"]) == (here.step, here.examples)
        assert there["train_loss"] == pytest.approx(here.train_loss, rel=1e-4)
        assert there["validation_loss"] == pytest.approx(here.validation_loss, rel=1e-4)
    for name in ("optimizer_steps", "examples", "tokens", "forward_examples"):
        assert stored["cost"][name] == getattr(alone.cost, name)
    assert not list(tmp_path.glob(".together*"))
