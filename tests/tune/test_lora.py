"""Tuning by a low-rank adapter: what is trained, what is written, what is counted, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import SPEC, RowsFactory
from tunemerge.errors import UsageError
from tunemerge.findings import FindingsError
from tunemerge.store.digest import digest_folder
from tunemerge.tasks.task import TASKS
from tunemerge.tune.adapter import lora_findings
from tunemerge.tune.config import LoraConfig, TuneConfig
from tunemerge.tune.model import tune_model
from tunemerge.tune.single import tune

KIND = TASKS[SPEC.kind]
LORA = TuneConfig(method="lora", lora=LoraConfig(rank=4), batch_size=8, learning_rate=1e-2, schedule="constant")


@pytest.fixture(scope="module")
def start(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    KIND.initialise(tiny_bert, folder, SPEC, 1)
    return folder


def _state(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def _tune(start: Path, out: Path, rows: list[Path], config: TuneConfig = LORA, **more: Any) -> Any:
    return tune_model(start, out, rows, task=SPEC, seed=5, config=config, **{"examples": 64, **more})


def test_an_adapter_and_the_head_learn_and_all_else_stays(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory
) -> None:
    rows = [rows_parquet(40)]
    _tune(start, tmp_path / "out", rows)
    before, after = _state(start), _state(tmp_path / "out")
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    layers = {n for n in before if ".layer." in n and before[n].ndim == 2}
    assert changed == layers | {"classifier.weight", "classifier.bias"}
    assert all(np.linalg.matrix_rank(after[n] - before[n], tol=1e-5) <= 4 for n in layers)
    _tune(start, tmp_path / "again", rows)
    assert digest_folder(tmp_path / "again") == digest_folder(tmp_path / "out")


def test_peft_loads_the_adapter_and_gives_the_folded_model(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification as Auto

    _tune(start, tmp_path / "out", [rows_parquet(40)])
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        folded = Auto.from_pretrained(tmp_path / "out").eval()(input_ids=ids).logits
        base = Auto.from_pretrained(start).eval()
        plain = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter").eval()(input_ids=ids).logits
    assert torch.allclose(adapted, folded, atol=1e-5) and not torch.allclose(plain, folded, atol=1e-2)


def test_an_adapter_is_tuned_on_and_keeps_its_rank(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    rows = [rows_parquet(40)]
    _tune(start, tmp_path / "one", rows)
    still = LORA.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    _tune(tmp_path / "one", tmp_path / "same", rows, still, under=start)
    one, same = _state(tmp_path / "one"), _state(tmp_path / "same")
    assert all(np.array_equal(one[n], same[n]) for n in one)
    _tune(tmp_path / "one", tmp_path / "two", rows, under=start)
    before, after = _state(start), _state(tmp_path / "two")
    layers = [n for n in before if ".layer." in n and before[n].ndim == 2]
    assert all(np.linalg.matrix_rank(after[n] - before[n], tol=1e-5) == 4 for n in layers)
    assert any(not np.array_equal(after[n], one[n]) for n in layers)


def test_frozen_weights_cost_no_gradients_of_their_own(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    """By hand: forward 2, gradients of inputs 2 (none below the first adapters), of the adapter's factors 2 each."""
    texts = ["good movie"] * 8
    rows = [rows_parquet(texts=texts, labels=["positive", "negative"] * 4)]
    few = {"examples": 8, "config": LORA.model_copy(update={"evaluations": 1})}
    lora = _tune(start, tmp_path / "lora", rows, **few).cost.train_flops
    full = _tune(start, tmp_path / "full", rows, TuneConfig(batch_size=8, evaluations=1), examples=8).cost.train_flops
    hidden, inner, rank, layers, heads_out = 32, 64, 4, 2, len(SPEC.labels)
    length = _padded(start, texts[0])
    tokens = 8 * length
    sides = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    matrices = sum(a * b for a, b in sides)
    low = rank * sum(a + b for a, b in sides)
    pairs = 2 * length * hidden
    forward = 2 * tokens * layers * (matrices + pairs + low)
    # Below the first layer's query, key and value nothing asks for a gradient: neither through W nor through A.
    back_inputs = 2 * tokens * (layers * (matrices + low) - 3 * (hidden * hidden + rank * hidden))
    back = back_inputs + 2 * tokens * layers * (2 * pairs + low)
    top = 8 * (2 + 2) * hidden * hidden + 8 * (2 + 4) * hidden * heads_out
    assert lora == pytest.approx(forward + back + top, rel=0.001)
    assert lora < 0.9 * full


def _padded(folder: Path, text: str) -> int:
    from tunemerge.tasks import hub
    from tunemerge.tasks.batching import MULTIPLE

    return -(-len(hub.tokenizer_of(folder)(text)["input_ids"]) // MULTIPLE) * MULTIPLE


def test_what_is_wrong_is_said_before_anything_is_trained(tiny_bert: Path) -> None:
    def said(**lora: Any) -> list[tuple[str, str, str]]:
        config = TuneConfig(method="lora", lora=LoraConfig(**lora))
        return [(f.code, f.message, f.remedy or "") for f in lora_findings(config, tiny_bert)]

    assert said() == [] and said(targets=["query", "value"], rank=32) == []
    ((code, text, fix),) = said(targets=["querry"])
    assert code == "lora-targets" and "did you mean 'query'" in text and "dense, key, query, value" in fix
    ((code, text, _),) = said(rank=33)
    assert code == "lora-rank" and "rank 33 is more than" in text
    assert [c for c, *_ in said(targets=["querry", "key"], rank=33)] == ["lora-targets", "lora-rank"]


def test_a_model_without_numbered_layers_has_no_auto_targets(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"body.weight": np.zeros((4, 4), np.float32)}, tmp_path / "model.safetensors")
    (finding,) = lora_findings(TuneConfig(method="lora", lora=LoraConfig(rank=2)), tmp_path)
    assert finding.code == "lora-targets" and "auto" in finding.message
    assert lora_findings(TuneConfig(method="lora", lora=LoraConfig(rank=2, targets=["body"])), tmp_path) == []


def test_peft_missing_and_lora_with_head_only(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunemerge.tune.adapter.find_spec", lambda name: None)
    (finding,) = lora_findings(TuneConfig(method="lora"), tiny_bert)
    assert finding.code == "lora-missing" and "pip install 'tunemerge[lora]'" in (finding.remedy or "")
    with pytest.raises(ValueError, match="write method: lora"):
        TuneConfig(method="head", lora=LoraConfig())


def test_tune_by_name(tiny_bert: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    data = rows_parquet(30)
    with pytest.raises((FindingsError, UsageError), match="querry"):
        tune(tiny_bert, data, tmp_path / "out", method="lora", lora={"targets": ["querry"]})
    assert not (tmp_path / "out").exists()
    tune(tiny_bert, data, tmp_path / "out", method="lora", lora={"rank": 2}, batch_size=8, epochs=1)
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (2, 16.0, ["classifier"])
