from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from corpus import LABELS, SPEC
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS

TASK = TASKS["text-classification"]


def spec_of(labels: list[str]) -> Spec:
    return Spec(TASK.name, tuple(labels))


def _init(folder: Path, out: Path, labels: list[str] = LABELS, seed: int = 0, dropout: float | None = None) -> Path:
    out.mkdir()
    TASK.initialise(folder, out, spec_of(labels), seed, dropout)
    return out


def _rows(texts: list[str]) -> Rows:
    return Rows(texts, np.zeros(len(texts), np.int32), [str(i) for i in range(len(texts))], np.ones(len(texts)))


def _logits(folder: Path, labels: list[str]) -> np.ndarray:
    from tunemerge.tasks.forward import predictions

    model = TASK.load(folder, spec_of(labels))
    return predictions(model, TASK.encode(model, _rows(["good film", "a bad phone with food"]), 64), "float32")


def test_a_fresh_head_follows_from_the_seed_and_leaves_the_body(tiny_bert: Path, tmp_path: Path) -> None:
    one, same, other = (_init(tiny_bert, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert (one / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    body, made, else_ = (
        load_file(tiny_bert / "model.safetensors"),
        *(load_file(f / "model.safetensors") for f in (one, other)),
    )
    assert set(made) == {f"bert.{name}" for name in body} | {"classifier.weight", "classifier.bias"}
    assert all((made[f"bert.{name}"] == tensor).all() for name, tensor in body.items())
    assert made["classifier.weight"].shape == (2, 32)
    assert (made["classifier.weight"] != else_["classifier.weight"]).any()
    config = json.loads((one / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}
    assert (one / "vocab.txt").read_bytes() == (tiny_bert / "vocab.txt").read_bytes()
    assert (one / "tokenizer.json").read_bytes() == (tiny_bert / "tokenizer.json").read_bytes()


def test_a_given_head_is_put_into_the_order_of_the_labels(tiny_bert: Path, tmp_path: Path) -> None:
    three = ["neutral", "positive", "negative"]
    given = _init(tiny_bert, tmp_path / "given", three)
    wanted = _init(given, tmp_path / "wanted", LABELS, seed=9)
    assert np.array_equal(_logits(wanted, LABELS), _logits(given, three)[:, [2, 1]])
    assert json.loads((wanted / "config.json").read_text())["id2label"] == {"0": "negative", "1": "positive"}


def test_a_head_without_one_of_the_labels_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    given = _init(tiny_bert, tmp_path / "given", ["good", "positive"])
    with pytest.raises(UsageError, match=r"id2label has no 'negative'.*good, positive"):
        _init(given, tmp_path / "out")


def test_half_precision_becomes_float32(tiny_bert: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(tiny_bert, half)
    tensors = load_file(half / "model.safetensors")
    save_file({n: t.astype(np.float16) for n, t in tensors.items()}, half / "model.safetensors", {"format": "pt"})
    made = load_file(_init(half, tmp_path / "out") / "model.safetensors")
    assert {t.dtype for t in made.values()} == {np.dtype(np.float32)}
    name = "embeddings.word_embeddings.weight"
    assert np.array_equal(made[f"bert.{name}"], tensors[name].astype(np.float16).astype(np.float32))


def test_dropout_is_written_into_the_config(tiny_bert: Path, tmp_path: Path) -> None:
    config = json.loads((_init(tiny_bert, tmp_path / "out", dropout=0.3) / "config.json").read_text())
    assert config["hidden_dropout_prob"] == config["attention_probs_dropout_prob"] == 0.3
    assert config["classifier_dropout"] is None
    plain = json.loads((_init(tiny_bert, tmp_path / "plain") / "config.json").read_text())
    assert plain["hidden_dropout_prob"] == 0.1


def test_loading_refuses_other_labels_and_missing_heads(tiny_bert: Path, tmp_path: Path) -> None:
    made = _init(tiny_bert, tmp_path / "made")
    with pytest.raises(UsageError, match="id2label is negative, positive; expected positive, negative in this order"):
        TASK.load(made, spec_of(LABELS[::-1]))
    tensors = load_file(made / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"tensor classifier\.bias is missing"):
        TASK.load(made, SPEC)
    with pytest.raises(CheckpointError, match=r"tensor classifier\.bias is missing"):
        _init(made, tmp_path / "again")


def test_unusable_folders_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        TASK.load(tmp_path, SPEC)
    broken = tmp_path / "broken"
    shutil.copytree(_init(tiny_bert, tmp_path / "made"), broken)
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"broken.model\.safetensors"):
        TASK.load(broken, SPEC)


def test_rows_are_cut_at_the_shorter_of_both_limits(tiny_bert: Path, tmp_path: Path) -> None:
    made = _init(tiny_bert, tmp_path / "made")
    model = TASK.load(made, SPEC)
    rows = _rows(["the film was good " * 40, "bad"])
    assert TASK.encode(model, rows, 20).lengths.tolist() == [20, 3]
    assert TASK.encode(model, rows, 500).lengths.tolist() == [64, 3]


def test_transformers_settings_are_left_alone(
    tiny_bert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    TASK.load(_init(tiny_bert, tmp_path / "made"), SPEC)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
    assert capfd.readouterr() == ("", "")
