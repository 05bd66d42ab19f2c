"""A study whose every tuning trains an adapter: which arms stay adapters, what is folded, what is exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from small import TUNING, run, small_study
from tunemerge.errors import UsageError
from tunemerge.merge.memory import merge_state
from tunemerge.study.export import export_arm

ORDERS = ["joint", "sequential", "merge_then_tune", "tune_then_merge", "tune_merge_tune", "base_probe"]
LORA = {**TUNING, "method": "lora", "lora": {"rank": 2}}


@pytest.fixture(scope="module")
def done(tiny_bert, tmp_path_factory):
    study = small_study(
        tmp_path_factory.mktemp("lora"), tiny_bert, tuning=LORA, seeds=1, strategies=ORDERS, budget={"examples": 32}
    )
    return study, run(study)


def _state(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def test_the_report_says_which_arms_are_adapters(done):
    _, results = done
    assert {arm.name: arm.form for arm in results.arms} == {
        "joint": "adapter r=2 on base",
        "sequential": "adapter r=2 on base",
        "merge_then_tune/linear": "adapter r=4 on base",
        "merge_then_tune/ties": "adapter r=2 on ties merge",
        "tune_then_merge/linear": "adapter r=4 on base",
        "tune_then_merge/ties": "adapters folded into the weights for ties",
        "tune_merge_tune/linear": "adapter r=4 on base",
        "tune_merge_tune/ties": "adapter r=2 on ties merge",
        "base_probe": "",
        "tfidf_linear": "",
    }


def test_a_merge_of_adapters_is_the_merge_of_the_models_that_they_make(done):
    study, _ = done
    plan = study.plan()
    step = next(s for s in plan.graph.steps if s.op == "merge" and "under" in s.inputs)
    store, merged = study.store, study.store.path(step.key)
    models = [_state(store.path(m.key)) for m in step.inputs["models"]]
    assert any(
        all(np.allclose(_state(merged)[n], merge_state("linear", models, None, c)[n], atol=1e-7) for n in models[0])
        for c in step.inputs["choice"][0].params["candidates"]
    )


def test_peft_loads_an_exported_adapter(done, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification as Auto

    study, results = done
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    for arm in ("tune_then_merge/linear", "merge_then_tune/ties", "tune_merge_tune/linear"):
        plain, lora = tmp_path / f"{arm}/plain", tmp_path / f"{arm}/lora"
        plain.parent.mkdir(parents=True)
        export_arm(results, study.store, plain, arm)
        export_arm(results, study.store, lora, arm, adapter=True)
        assert not (plain / "adapter").exists()
        with torch.no_grad():
            whole = Auto.from_pretrained(plain).eval()(input_ids=ids).logits
            under = Auto.from_pretrained(lora / "base").eval()
            before = under(input_ids=ids).logits
            adapted = PeftModel.from_pretrained(under, lora).eval()(input_ids=ids).logits
        assert torch.allclose(whole, adapted, atol=1e-5) and not torch.allclose(before, adapted, atol=1e-4)
    with pytest.raises(UsageError, match=r"folded into the weights for ties; these are adapters: joint"):
        export_arm(results, study.store, tmp_path / "none", "tune_then_merge/ties", adapter=True)


def test_what_is_lost_is_made_again_bit_for_bit(done):
    import shutil

    study, _ = done
    store, plan = study.store, study.plan()
    steps = [s for s in plan.graph.steps if s.op in ("tune", "merge")]
    before = {s.key: store.get(s.key).digest for s in steps}
    for step in steps:
        shutil.rmtree(store.path(step.key))
    for step in (s for s in plan.graph.steps if s.op == "predict"):
        shutil.rmtree(store.path(step.key))
    run(study)
    assert {s.key: store.get(s.key).digest for s in steps} == before
