"""The steps "init" and "tune" as a worker runs them."""

from __future__ import annotations

import gc
import json
from pathlib import Path

from corpus import SPEC, RowsFactory
from tunemerge.graph.operation import OPERATIONS, Job
from tunemerge.tune import init, operation  # noqa: F401  (registers the steps)
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model

TASK = {"task": SPEC.as_dict()}


def _run(op: str, out: Path, params: dict[str, object], **inputs: tuple[Path, ...]) -> tuple[Path, object]:
    out.mkdir()
    return out, OPERATIONS[op].run(Job({**TASK, **params}, inputs, out))


def test_init_then_tune_is_what_the_functions_do(tiny_bert: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    import torch

    threads = torch.get_num_threads()
    start, cost = _run("init", tmp_path / "start", {"seed": 3, "dropout": 0.2}, model=(tiny_bert,))
    assert cost.forward_examples == cost.examples == 0
    assert json.loads((start / "config.json").read_text())["hidden_dropout_prob"] == 0.2
    tuning = TuneConfig(batch_size=8, learning_rate=1e-3)
    train, validation = rows_parquet(20, 1, "train"), rows_parquet(10, 2, "validation")
    params = {"seed": 5, "examples": 24, "tuning": tuning.model_dump()}
    out, cost = _run("tune", tmp_path / "out", params, model=(start,), train=(train,), validation=(validation,))
    assert (cost.optimizer_steps, cost.examples, cost.forward_examples, cost.trials) == (3, 24, 30, 0)
    assert cost.tokens > 24 * 3 and cost.train_flops > 0
    other = tmp_path / "other"
    torch.set_num_threads(1)
    tune_model(start, other, [train], [validation], task=SPEC, seed=5, examples=24, config=tuning)
    torch.set_num_threads(threads)
    assert (out / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert torch.get_num_threads() == threads


def test_no_model_outlives_its_step(tiny_bert: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    import torch

    start, _ = _run("init", tmp_path / "start", {"seed": 3, "dropout": None}, model=(tiny_bert,))
    params = {"seed": 5, "examples": 24, "tuning": TuneConfig(batch_size=8).model_dump()}
    gc.collect()
    before = sum(isinstance(o, torch.nn.Module) for o in gc.get_objects())
    _run("tune", tmp_path / "out", params, model=(start,), train=(rows_parquet(20),), validation=())
    assert sum(isinstance(o, torch.nn.Module) for o in gc.get_objects()) == before
