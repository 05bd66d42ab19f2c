from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.dtypes import NUMPY
from tunemerge.checkpoint.writer import CheckpointWriter, TensorSpec
from tunemerge.compat import check_models
from tunemerge.findings import Finding

WORDS = ["[PAD]", "[UNK]", "good", "bad", "film", *(f"w{i}" for i in range(295))]


def encoder(prefix: str = "bert.", vocab: int = 300, width: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"embeddings.word_embeddings.weight": (vocab, width), "encoder.layer.0.output.weight": (width, width)}
    shapes["encoder.layer.0.LayerNorm.bias"] = (width,)
    return {prefix + n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def classifier(labels: int = 2, **more: Any) -> dict[str, Any]:
    state = encoder(**more)
    width = next(iter(state.values())).shape[1]
    return {
        **state,
        "classifier.weight": np.zeros((labels, width), np.float32),
        "classifier.bias": np.zeros(labels, np.float32),
    }


def model(
    folder: Path,
    state: Mapping[str, Any] | None = None,
    *,
    words: list[str] | None = None,
    labels: Mapping[Any, str] | None = None,
    **config: Any,
) -> Path:
    folder.mkdir()
    state = classifier() if state is None else state
    names = {d: n for n, d in NUMPY.items() if not n.startswith("F8") and n != "U16"}
    writer = CheckpointWriter(folder, {n: TensorSpec(names[a.dtype], a.shape) for n, a in state.items()}, {})
    for name, array in state.items():
        writer.write(name, 0, array)
    writer.close()
    about = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 4, **config}
    about["id2label"] = {"0": "neg", "1": "pos"} if labels is None else labels
    (folder / "config.json").write_text(json.dumps(about))
    tokens = {token: i for i, token in enumerate(WORDS if words is None else words)}
    data = {"normalizer": {"type": "BertNormalizer"}, "model": {"type": "WordPiece", "vocab": tokens}}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return folder


def codes(findings: list[Finding], severity: str = "error") -> list[str]:
    return [f.code for f in findings if f.severity == severity]


def test_models_that_fit_together_have_no_findings(tmp_path: Path) -> None:
    models = {name: model(tmp_path / name) for name in ("a", "b")}
    assert check_models(models, model(tmp_path / "base")) == []


def test_a_base_without_head_and_prefix_is_a_note(tmp_path: Path) -> None:
    base = model(tmp_path / "base", encoder(prefix=""), architectures=["BertModel"])
    found = check_models({name: model(tmp_path / name) for name in ("a", "b")}, base)
    assert codes(found) == [] and codes(found, "warning") == []
    assert [(f.code, f.where) for f in found] == [("head-only-here", "a"), ("head-only-here", "b")]
    assert "classifier.bias, classifier.weight" in found[0].message


def test_integer_buffers_that_only_one_side_has_are_a_note(tmp_path: Path) -> None:
    """An older transformers saved position ids; models tuned from such a base today are without them."""
    state = {**encoder(prefix=""), "embeddings.position_ids": np.arange(8, dtype=np.int64)[None]}
    base = model(tmp_path / "base", state, architectures=["BertModel"])
    found = check_models({name: model(tmp_path / name) for name in ("a", "b")}, base)
    assert codes(found) == [] and codes(found, "warning") == []
    notes = [f for f in found if f.code == "tensor-buffers"]
    assert [f.where for f in notes] == ["a", "b"] and "embeddings.position_ids" in notes[0].message


def test_every_kind_of_fault_at_once(tmp_path: Path) -> None:
    nan = classifier()
    nan["bert.encoder.layer.0.output.weight"][1, 2] = np.nan
    nan["classifier.bias"][0] = np.inf
    cut = model(tmp_path / "cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[:-7])
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    bare = model(tmp_path / "bare")
    (bare / "config.json").unlink()
    models = {
        "a": model(tmp_path / "a"),
        "nan": model(tmp_path / "nan", nan),
        "wide": model(tmp_path / "wide", classifier(width=6), hidden_size=6),
        "other": model(tmp_path / "other", model_type="roberta"),
        "words": model(tmp_path / "words", words=[*WORDS[:2], "bad", "good", *WORDS[4:]]),
        "labels": model(tmp_path / "labels", labels={"0": "no", "1": "yes"}),
        "cut": cut,
        "pickled": pickled,
        "bare": bare,
        "gone": tmp_path / "gone",
    }
    found = check_models(models, None)
    by_model = {name: sorted(f.code for f in found if f.where == name and f.severity == "error") for name in models}
    assert by_model == {
        "a": [],
        "nan": ["weights-not-finite", "weights-not-finite"],
        "wide": ["architecture-size", "tensor-shapes"],
        "other": ["architecture"],
        "words": ["tokenizers-differ"],
        "labels": ["labels-differ"],
        "cut": ["checkpoint-unreadable"],
        "pickled": ["pickle-weights"],
        "bare": ["config-missing"],
        "gone": ["checkpoint-unreadable"],
    }
    text = "\n".join(map(str, found))
    where = f"{tmp_path / 'nan' / 'model.safetensors'}: bert.encoder.layer.0.output.weight"
    assert f"{where} has 1 NaN or Inf, the first at element 6" in text
    assert "embeddings.word_embeddings.weight [300, 6] instead of [300, 4]" in text
    assert "2 tokens with other numbers ('good', 'bad')" in text
    assert "predicts no, yes, and a predicts neg, pos" in text
    assert "truncated: " in text and "(7 missing)" in text
    assert "save_pretrained(folder)" in text


def test_tensors_that_only_one_has(tmp_path: Path) -> None:
    deep = {**classifier(), "bert.encoder.layer.1.output.weight": np.zeros((4, 4), np.float32)}
    found = check_models({"a": model(tmp_path / "a"), "deep": model(tmp_path / "deep", deep)}, None)
    assert codes(found) == ["tensor-names"]
    assert "has 1 that a lacks (bert.encoder.layer.1.output.weight)" in found[0].message


@pytest.mark.parametrize(("added", "severity"), [(2, "warning"), (40, "error")])
def test_added_tokens(tmp_path: Path, added: int, severity: str) -> None:
    more = model(tmp_path / "more", words=[*WORDS, *(f"<new{i}>" for i in range(added))])
    found = check_models({"a": model(tmp_path / "a"), "more": more}, None)
    assert [(f.code, f.severity) for f in found] == [("tokenizers-differ", severity)]
    assert f"{added} tokens that a lacks ('<new0>', '<new1>'" in found[0].message


def test_the_same_vocabulary_in_another_file_and_other_splitting(tmp_path: Path) -> None:
    lines = model(tmp_path / "lines")
    (lines / "tokenizer.json").unlink()
    (lines / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    cased = model(tmp_path / "cased")
    data = json.loads((cased / "tokenizer.json").read_text())
    data["normalizer"] = None
    (cased / "tokenizer.json").write_text(json.dumps(data))
    none = model(tmp_path / "none")
    (none / "tokenizer.json").unlink()
    found = check_models({"a": model(tmp_path / "a"), "lines": lines, "cased": cased, "none": none}, None)
    assert [(f.code, f.where) for f in found] == [("tokenizer-missing", "none"), ("tokenizer-splitting", "cased")]
    assert "(normalizer)" in found[1].message


def test_a_broken_tokenizer_file(tmp_path: Path) -> None:
    broken = model(tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    assert codes(check_models({"a": model(tmp_path / "a"), "broken": broken}, None)) == ["tokenizer-unreadable"]


def test_labels_in_another_order_and_without_names(tmp_path: Path) -> None:
    models = {
        "a": model(tmp_path / "a"),
        "turned": model(tmp_path / "turned", labels={"0": "pos", "1": "neg"}),
        "plain": model(tmp_path / "plain", labels={"0": "LABEL_0", "1": "LABEL_1"}),
    }
    found = check_models(models, None)
    assert [(f.code, f.severity, f.where) for f in found] == [
        ("labels-unnamed", "warning", "plain"),
        ("labels-reordered", "note", "turned"),
    ]


def test_different_number_formats_are_a_note(tmp_path: Path) -> None:
    half = model(tmp_path / "half", {n: a.astype(np.float16) for n, a in classifier().items()})
    found = check_models({"a": model(tmp_path / "a"), "half": half}, None)
    assert [(f.code, f.severity) for f in found] == [("dtypes-differ", "note")]
    assert "a F32; half F16" in found[0].message


def test_nan_in_bfloat16(tmp_path: Path) -> None:
    bits = np.zeros((2, 3), np.uint16)
    bits[1, 1] = 0x7FC0
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    writer = CheckpointWriter(folder, {"w": TensorSpec("BF16", (2, 3))}, {})
    writer.write("w", 0, bits)
    writer.close()
    (finding,) = check_models({"m": folder}, None)
    assert "w has 1 NaN or Inf, the first at element 4" in finding.message
