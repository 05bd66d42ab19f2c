"""Which parameters each method trains, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus import SPEC, RowsFactory
from tunemerge.evaluate.predict import predict
from tunemerge.findings import FindingsError
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.layers import depths
from tunemerge.tune.model import Tuned, tune_model
from tunemerge.tune.parts import part_findings

HEAD = {"classifier.weight", "classifier.bias"}


@pytest.fixture
def start(tiny_bert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "start"
    folder.mkdir()
    TASKS[SPEC.kind].initialise(tiny_bert, folder, SPEC, 0, dropout=0.0)
    return folder


def _tune(start: Path, rows: list[Path], **settings: object) -> tuple[set[str], Tuned, Path]:
    """The names of the tensors that changed."""
    same = {"batch_size": 8, "learning_rate": 1e-2, "schedule": "constant", "warmup": 0}
    out = start.parent / f"out{len(list(start.parent.iterdir()))}"
    config = TuneConfig.model_validate({**same, **settings})
    tuned = tune_model(start, out, rows, task=SPEC, seed=5, examples=16, config=config)
    before, after = load_file(start / "model.safetensors"), load_file(out / "model.safetensors")
    return {n for n in before if not np.array_equal(before[n], after[n])}, tuned, out


def test_each_method_trains_its_part_and_is_charged_for_it(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory
) -> None:
    rows = [rows_parquet(30)]
    names = list(load_file(start / "model.safetensors"))
    changed, cost = {}, {}
    for method in ("full", "bitfit", "attention", "last_layers", "head"):
        changed[method], tuned, _ = _tune(start, rows, method=method)
        cost[method] = tuned.cost.train_flops
    # The bias of keys has no gradient: softmax takes no notice of what is added to all.
    biases = {n for n in names if n.endswith("bias") and "key" not in n}
    assert biases | HEAD <= changed["bitfit"] <= {n for n in names if n.endswith("bias")} | HEAD
    matrices = {n for n in names if ".attention." in n and n.endswith("weight") and "Norm" not in n}
    assert matrices | HEAD <= changed["attention"] <= {n for n in names if ".attention." in n} | HEAD
    assert not any("LayerNorm" in n for n in changed["attention"])
    assert changed["last_layers"] - HEAD
    assert all(".layer.1." in n or "pooler" in n or n in HEAD for n in changed["last_layers"])
    assert changed["head"] == HEAD
    assert cost["head"] < cost["last_layers"] < cost["full"] > cost["attention"] > cost["bitfit"]


def test_dora_is_folded_into_the_weights(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoModelForSequenceClassification as Auto

    from tunemerge.tune.adapter import fold

    changed, _, out = _tune(start, [rows_parquet(30)], method="dora", lora={"rank": 2})
    ends = ("query.weight", "key.weight", "value.weight", "dense.weight")
    matrices = {n for n in load_file(start / "model.safetensors") if ".layer." in n and n.endswith(ends)}
    assert changed == matrices | HEAD and not (out / "adapter").exists()
    assert np.isfinite(predict([out], [rows_parquet(30)], task=SPEC).predictions.outputs).all()
    net = Auto.from_pretrained(start).eval()
    plain = list(net.state_dict())
    adapter = LoraConfig(r=2, use_dora=True, target_modules=["query", "dense"], init_lora_weights=False)
    inject_adapter_in_model(adapter, net)
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        before = net(input_ids=ids).logits
        fold(net)
        assert torch.allclose(net(input_ids=ids).logits, before, atol=1e-5)
    assert list(net.state_dict()) == plain


def test_depths_of_names() -> None:
    names = ["embeddings.word.weight", "layer.0.q", "layer.1.q", "layer.10.q", "norm.weight", "fc.2.weight"]
    assert list(depths(names, {"fc.2.weight"}).values()) == [0, 1, 2, 3, 4, 4]
    names = ["stages.0.layers.0.w", "stages.0.layers.1.w", "stages.1.layers.0.w", "head.w"]
    assert list(depths(names).values()) == [1, 1, 2, 3]


def test_parts_that_are_not_there() -> None:
    names = ["embed.weight", "layers.0.mlp.weight", "layers.1.mlp.weight", "head.weight", "head.bias"]
    for method, said in (("bitfit", "no biases"), ("attention", "no attention")):
        (found,) = part_findings(TuneConfig(method=method), names, {"head.weight", "head.bias"}, "m")
        assert found.code == "no-part" and said in found.message
    (found,) = part_findings(TuneConfig(method="last_layers", layers=3), names, {"head.weight", "head.bias"}, "m")
    assert "m has 2 numbered layers" in found.message and found.where == "tuning.layers"
    assert not part_findings(TuneConfig(method="last_layers", layers=2), names, set(), "m")


def test_a_model_without_the_part_is_refused_before_it_is_trained(
    start: Path, tmp_path: Path, rows_parquet: RowsFactory
) -> None:
    with pytest.raises(FindingsError, match="has 2 numbered layers, so its last 5"):
        _tune(start, [rows_parquet(30)], method="last_layers", layers=5)
    with pytest.raises(ValueError, match="needs a GPU and bitsandbytes"):
        TuneConfig(method="qlora")
    with pytest.raises(ValueError, match="layers goes with method: last_layers"):
        TuneConfig(layers=3)


def test_what_came_later_is_in_no_key_at_its_default() -> None:
    assert set(TuneConfig().params()) == {
        "method", "learning_rate", "batch_size", "micro_batch", "weight_decay", "dropout", "label_smoothing",
        "schedule", "warmup", "max_grad_norm", "evaluations", "select", "max_length", "length_grouping", "precision",
    }  # fmt: skip
    more = TuneConfig(sam=0.05, average={"method": "ema"}, method="last_layers", layers=2)
    assert more.params()["sam"] == 0.05 and more.params()["layers"] == 2
    assert more.params()["average"]["decay"] == 0.99
    assert TuneConfig.model_validate(more.params()) == more
