"""A tuning with teachers learns what they answer, whatever their architecture, and is charged for asking them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from corpus import LABELS, SPEC, RowsFactory, sentences
from small import small_study
from tunemerge.evaluate.predict import predict
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import DistilConfig, TuneConfig
from tunemerge.tune.distil import distil_findings, taught_losses, teachers_answers
from tunemerge.tune.model import tune_model

KIND = TASKS[SPEC.kind]


@pytest.fixture
def start(tiny_bert: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "start"
    folder.mkdir()
    KIND.initialise(tiny_bert, folder, SPEC, 0, dropout=0.0)
    return folder


def test_how_far_a_model_is_from_its_teachers(start: Path) -> None:
    import torch

    model, config = KIND.load(start, SPEC), TuneConfig(distil=DistilConfig(temperature=2))
    logits, answers = torch.tensor([[2.0, -2.0], [0.0, 1.0]]), torch.tensor([[0.3, 0.7], [0.5, 0.5]])
    found = taught_losses(model, logits, {}, answers, config)
    p, q = answers.numpy(), torch.softmax(logits / 2, 1).numpy()
    assert np.allclose(found.numpy(), 4 * (p * np.log(p / q)).sum(1), atol=1e-6)


def test_teachers_of_two_architectures_answer_together(
    start: Path, tiny_bert: Path, tmp_path: Path, rows_parquet: RowsFactory
) -> None:
    import torch
    from transformers import AutoModel, DistilBertConfig

    torch.manual_seed(1)
    other, made = tmp_path / "distilbert", tmp_path / "made"
    shutil.copytree(tiny_bert, other)
    words = (other / "vocab.txt").read_text().split("\n")
    AutoModel.from_config(DistilBertConfig(vocab_size=len(words), dim=16, n_layers=1, n_heads=2)).save_pretrained(other)
    made.mkdir()
    KIND.initialise(other, made, SPEC, 3)
    rows, config = rows_parquet(12), TuneConfig(precision="float32", distil=DistilConfig(temperature=3))
    answers, cost = teachers_answers([start, made], KIND.read([rows], SPEC), SPEC, config, "cpu")
    each = [predict([m], [rows], task=SPEC, precision="float32").predictions.outputs / 3 for m in (start, made)]
    expected = np.mean([np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in each], axis=0)
    assert np.allclose(answers, expected, atol=1e-6) and answers.dtype == np.float32
    assert cost.forward_examples == 24 and cost.forward_flops > 0 == cost.train_flops


def test_a_model_learns_its_teacher_against_the_labels(start: Path, tmp_path: Path, rows_parquet: RowsFactory) -> None:
    texts, labels = sentences(48, 1)
    wrong = [LABELS[1 - LABELS.index(label)] for label in labels]
    right = rows_parquet(texts=texts, labels=labels, name="right")
    flipped = rows_parquet(texts=texts, labels=wrong, name="flipped")
    config = TuneConfig(batch_size=16, learning_rate=5e-3, evaluations=1, select="last", distil=DistilConfig(share=1))
    tune_model(start, tmp_path / "teacher", [right], task=SPEC, seed=1, examples=640, config=config)
    plain = tune_model(start, tmp_path / "plain", [flipped], task=SPEC, seed=1, examples=640, config=config)
    taught = tune_model(
        start, tmp_path / "taught", [flipped], task=SPEC, seed=1, examples=640, config=config,
        teachers=[tmp_path / "teacher"],
    )  # fmt: skip

    def accuracy(name: str) -> float:
        found = predict([tmp_path / name], [right], task=SPEC).predictions
        return float((found.outputs.argmax(1) == found.target).mean())

    assert accuracy("teacher") > 0.8 > 0.3 > accuracy("plain") and accuracy("taught") > 0.8
    assert taught.cost.forward_examples == plain.cost.forward_examples + 48
    assert taught.cost.train_flops == plain.cost.train_flops
    assert taught.curve[-1].train_loss > 1  # what is told are the labels


def test_teachers_of_a_written_strategy(tmp_path: Path, tiny_bert: Path) -> None:
    steps = {"m": {"merge": "pool"}, "out": {"tune": "m", "budget": 1, "teachers": "pool.a"}}
    plans = [
        small_study(
            tmp_path, tiny_bert, strategies=["merge_then_tune", {"name": "mine", "steps": steps}], methods=["linear"],
            seeds=1, tuning={"batch_size": 8, **more},
        ).plan()
        for more in ({}, {"distil": {"temperature": 4}})
    ]  # fmt: skip
    for plan, temperature in zip(plans, (2.0, 4.0), strict=True):
        taught = [s for s in plan.graph.steps if "teachers" in s.inputs]
        assert [s.params["tuning"]["distil"] for s in taught] == [{"share": 0.5, "temperature": temperature}]
        assert taught[0].label.endswith("taught by a") and taught[0].inputs["teachers"][0].label.startswith("a:")
    keys = [{s.key for s in plan.graph.steps if s.op == "tune" and "teachers" not in s.inputs} for plan in plans]
    assert keys[0] == keys[1]  # what is said of teachers changes no step that has none


def test_kinds_that_can_not_be_taught() -> None:
    assert not distil_findings(SPEC)
    assert [f.code for f in distil_findings(Spec("language-modelling"))] == ["distil"]
