"""Language models in a whole study: text files in, every order, an adapter, a base that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus import sentences
from small import TUNING, run
from tunemerge.findings import FindingsError
from tunemerge.study.study import Study


def language_study(folder: Path, base: Path, **changes: object) -> Study:
    for number, name in enumerate("ab"):
        (folder / f"{name}.txt").write_text("\n".join(sentences(260, number)[0]))
    text = {"chunk": 80, "splits": {"test": 40, "validation": 16, "adapt": 40, "source": 48}}
    config = {
        "name": "language",
        "task": "language-modelling",
        "base": str(base),
        "tasks": {n: {"data": f"{n}.txt", **text} for n in "ab"},
        "methods": ["linear", "ties"],
        "candidates": 2,
        "budget": {"examples": 32},
        "pool_budget": {"examples": 48},
        "seeds": 2,
        "tuning": TUNING,
        **changes,
    }
    return Study.from_dict(config, folder, folder / "work")


def test_all_orders_in_bits_per_byte(tiny_gpt: Path, tmp_path: Path) -> None:
    orders = ["merge_then_tune", "tune_then_merge", "tune_merge_tune", "merge_only", "ensemble", "base_probe"]
    results = run(language_study(tmp_path, tiny_gpt, seeds=1, strategies=orders, methods=["linear"]))
    arms = {arm.strategy: arm for arm in results.arms}
    assert results.metric == "bits_per_byte" and not results.higher_is_better
    assert {"merge_then_tune", "tune_then_merge", "tune_merge_tune", "ensemble", "byte_ngrams"} <= arms.keys()
    assert any("base_probe" in f.where and "no head" in f.message for f in results.findings)
    untuned = arms["merge_only"].test.value
    assert all(arms[a].test.value < untuned for a in ("merge_then_tune", "tune_then_merge", "tune_merge_tune"))
    assert set(arms["ensemble"].tasks["a"].metrics) == {"bits_per_byte", "nll_per_token", "perplexity"}


def test_an_adapter_in_every_order(tiny_llama: Path, tmp_path: Path) -> None:
    tuning = {**TUNING, "method": "lora", "lora": {"rank": 2}}
    orders = ["tune_then_merge"]
    study = language_study(tmp_path, tiny_llama, tuning=tuning, strategies=orders, seeds=1)
    forms = {arm.name: arm.form for arm in run(study).arms}
    assert forms["tune_then_merge/linear"] == "adapter r=4 on base"
    assert forms["tune_then_merge/ties"] == "adapters folded into the weights for ties"


def test_a_classifier_is_no_language_model(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(FindingsError) as found:
        language_study(tmp_path, tiny_bert).plan()
    assert [f.code for f in found.value.findings if f.severity == "error"] == ["unfit-model"]
