"""`micro_batch: auto`: what doesn't fit into memory is halved, and the tuning is that of the size that was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import SPEC, RowsFactory
from tunemerge.errors import UsageError
from tunemerge.tasks.task import TASKS
from tunemerge.tune.checkpoints import Cadence
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.micro_batch import largest_pass
from tunemerge.tune.model import Tuned, tune_model

TASK = TASKS[SPEC.kind]
Run = Callable[..., tuple[dict[str, bytes], Tuned, dict[str, Any]]]


class KilledError(Exception):
    pass


@pytest.fixture
def run(tiny_bert: Path, tmp_path: Path, rows_parquet: RowsFactory) -> Run:
    """run(name, micro_batch) -> (weights and rows that were seen, what happened, the record)."""
    start, rows = tmp_path / "start", [rows_parquet(40, 1, "train")]
    start.mkdir()
    TASK.initialise(tiny_bert, start, SPEC, 0, dropout=0.1)

    def tune(
        name: str, micro_batch: object, progress: Any = lambda *_: None, unfinished: Path | None = None
    ) -> tuple[dict[str, bytes], Tuned, dict[str, Any]]:
        settings = {"batch_size": 12, "learning_rate": 1e-3, "micro_batch": micro_batch, "evaluations": 2}
        out, config = tmp_path / name, TuneConfig.model_validate(settings)
        tuned = tune_model(
            start, out, rows, task=SPEC, seed=3, examples=44, config=config, progress=progress, unfinished=unfinished
        )
        record = json.loads((out / "tunemerge_tune.json").read_text())
        return {f.name: f.read_bytes() for f in out.iterdir() if f.suffix == ".safetensors"}, tuned, record

    return tune


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str, Exception | None], None]:
    """memory(rows, when): from now on passes of more rows run out of memory in the forward or backward pass."""
    import torch

    load, limit = type(TASK).load, {"rows": 0, "when": "", "problem": None}

    def limited(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = load(self, *args, **kwargs)

        def fail(*_: Any) -> None:
            raise limit["problem"] or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        def hook(module: Any, inputs: Any, output: Any) -> None:
            if module.training and len(output) > limit["rows"]:
                fail() if limit["when"] == "forward" else output.register_hook(fail)

        model.net.bert.embeddings.register_forward_hook(hook)
        return model

    def have(rows: int, when: str = "forward", problem: Exception | None = None) -> None:
        limit.update(rows=rows, when=when, problem=problem)
        monkeypatch.setattr(type(TASK), "load", limited)

    return have


def test_the_largest_pass() -> None:
    lengths = np.array([3, 9, 4, 5, 17])
    assert largest_pass(np.array([0, 1, 2, 3, 4]), lengths, 2).tolist() == [0, 1]  # 18; the row that is alone: 17
    assert largest_pass(np.array([0, 1, 2, 3, 4]), lengths, 1).tolist() == [4]


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_what_does_not_fit_is_halved(run: Run, memory: Callable[..., None], when: str) -> None:
    expected, one, plain = run("three", 3)
    memory(5, when)
    found, other, record = run("auto", "auto")
    assert record["micro_batch"] == 3 and "micro_batch" not in plain  # 12, 6, 3
    assert found == expected
    assert other == one  # the curve, and costs without the passes that were tried


def test_where_all_fits_nothing_changes(run: Run) -> None:
    expected, one, _ = run("absent", None)
    found, other, record = run("auto", "auto")
    assert (found, other, record["micro_batch"]) == (expected, one, 12)


def test_memory_that_cannot_be_had_on_a_cpu(run: Run, memory: Callable[..., None]) -> None:
    memory(7, problem=RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"))
    assert run("auto", "auto")[2]["micro_batch"] == 6


def test_other_problems_are_told(run: Run, memory: Callable[..., None]) -> None:
    memory(7, problem=RuntimeError("shapes don't match"))
    with pytest.raises(RuntimeError, match="shapes don't match"):
        run("auto", "auto")
    memory(0)
    with pytest.raises(UsageError, match="memory doesn't suffice to train on a single row: lower max_length"):
        run("none", "auto")


def test_a_killed_tuning_goes_on_with_what_was_found(
    run: Run, memory: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cadence, "due", lambda self: True)
    monkeypatch.setattr("tunemerge.tune.keeper._SECONDS_BETWEEN_MESSAGES", 0.0)
    expected, _, _ = run("three", 3)
    memory(5)

    def stop(fraction: float, message: str) -> None:
        if message.startswith("step 3/"):
            raise KilledError

    with pytest.raises(KilledError):
        run("cut", "auto", stop, tmp_path / "unfinished")
    memory(100)  # there is more by now
    found, _, record = run("again", "auto", unfinished=tmp_path / "unfinished")
    assert (found, record["micro_batch"]) == (expected, 3)
