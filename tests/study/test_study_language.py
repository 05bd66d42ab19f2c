"""Language models in a whole study: text files in, every order, an adapter, a base that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def test_adapters_that_are_kept(tiny_llama: Path, tmp_path: Path) -> None:
    tuning = {**TUNING, "method": "lora", "lora": {"rank": 2}}
    orders = ["tune_then_merge", "merge_then_tune"]
    kept: dict[str, Any] = {"strategies": orders, "seeds": 1, "adapters": "keep"}
    plan = language_study(tmp_path, tiny_llama, tuning=tuning, **kept).plan()
    why = "adapters: keep, and ties would fold adapters into the weights"
    assert dict(plan.unavailable) == {"tune_then_merge/ties": why, "merge_then_tune/ties": why}
    assert {"tune_then_merge/linear", "merge_then_tune/linear"} <= {arm.name for arm in plan.arms}
    with pytest.raises(FindingsError, match="tuning by full leaves no adapter"):
        language_study(tmp_path, tiny_llama, **kept).plan()


def test_a_classifier_is_no_language_model(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(FindingsError) as found:
        language_study(tmp_path, tiny_bert).plan()
    assert [f.code for f in found.value.findings if f.severity == "error"] == ["unfit-model"]


def test_what_is_learned_is_shown_before_training(tiny_gpt: Path, tmp_path: Path) -> None:
    rows = [f'{{"q": "{text}", "a": "{"yes" if "good" in text else "no"}"}}' for text in sentences(300, 1)[0]]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    asked = {"data": "a.jsonl", "prompt": "q", "completion": "a", "template": "{prompt}?"}
    sizes = {"test": 60, "validation": 20, "adapt": 40, "source": 40}
    short: dict[str, Any] = {"tuning": {**TUNING, "max_length": 16}}
    study = language_study(tmp_path, tiny_gpt, task="instructions", tasks={"a": {**asked, "splits": sizes}}, **short)
    found = {f.code: f for f in study.check()}
    assert found["supervised"].message.endswith("?⟦no<|end|>⟧") or found["supervised"].message.endswith("?⟦yes<|end|>⟧")
    assert "have more than 16 tokens: their beginning is not read" in found["rows-cut"].message
    plain = {f.code: f for f in language_study(tmp_path, tiny_gpt, **short).check()}
    assert "have more than 16 tokens: what comes after them is not read" in plain["rows-cut"].message
