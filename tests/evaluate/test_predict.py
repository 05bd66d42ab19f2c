from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from corpus import LABELS, SPEC, RowsFactory, sentences
from tunemerge.errors import UsageError
from tunemerge.evaluate.operation import run
from tunemerge.evaluate.predict import predict, read_predictions, write_predictions
from tunemerge.graph.operation import Job
from tunemerge.stats.metrics import log_softmax
from tunemerge.tasks import hub
from tunemerge.tasks.task import TASKS

TASK = TASKS["text-classification"]


@pytest.fixture(scope="module")
def models(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(f"model{seed}") for seed in range(3)]
    for seed, folder in enumerate(folders):
        TASK.initialise(tiny_bert, folder, SPEC, seed)
        generator, tensors = np.random.default_rng(seed), load_file(folder / "model.safetensors")
        # Weights large enough that rows get different logits: else their order could not be seen.
        noisy = {n: t + generator.normal(0, 0.2, t.shape).astype(np.float32) for n, t in tensors.items()}
        save_file(noisy, folder / "model.safetensors", {"format": "pt"})
    return folders


def test_logits_are_the_models_own_in_row_order(models: list[Path], rows_parquet: RowsFactory) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts, labels = sentences(70, 4)
    weights = [1 + i / 10 for i in range(70)]
    file = rows_parquet(texts=texts, labels=labels, units=[f"d{i // 3}" for i in range(70)], weights=weights)
    found = predict(models[:1], file, task=SPEC, precision="float32").predictions
    model = AutoModelForSequenceClassification.from_pretrained(models[0])
    tokenizer = AutoTokenizer.from_pretrained(models[0])
    with torch.no_grad():
        alone = np.stack([model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts])
    np.testing.assert_allclose(found.outputs, alone, atol=1e-6)
    assert np.std(alone[:, 0]) > 0.05
    assert found.target.tolist() == [LABELS.index(label) for label in labels]
    assert found.unit.tolist() == [f"d{i // 3}" for i in range(70)]
    assert found.weight.tolist() == weights


def test_the_same_bits_again(models: list[Path], rows_parquet: RowsFactory) -> None:
    file = rows_parquet(50)
    one, two = (predict(models, file, task=SPEC).predictions.outputs for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_an_ensemble_is_the_mean_of_probabilities(models: list[Path], rows_parquet: RowsFactory) -> None:
    file = rows_parquet(20)
    alone = [np.exp(log_softmax(predict([m], file, task=SPEC).predictions.outputs)) for m in models]
    together = predict(models, file, task=SPEC)
    np.testing.assert_allclose(np.exp(together.predictions.outputs), np.mean(alone, axis=0), rtol=1e-12)
    assert together.cost.forward_examples == 60
    assert together.cost.forward_flops == 3 * predict(models[:1], file, task=SPEC).cost.forward_flops > 0
    assert together.cost.examples == 0 and together.cost.train_flops == 0


def test_stored_and_read_again(models: list[Path], rows_parquet: RowsFactory, tmp_path: Path) -> None:
    made = predict(models[:1], rows_parquet(9), task=SPEC).predictions
    write_predictions(made, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("unit", "string"),
        ("target", "int32"),
        ("logit_0", "double"),
        ("logit_1", "double"),
        ("weight", "double"),
    ]
    again = read_predictions(tmp_path / "p.parquet")
    assert all(np.array_equal(getattr(made, n), getattr(again, n)) for n in ("unit", "target", "outputs", "weight"))


def test_logits_keep_their_order_beyond_ten_labels(tmp_path: Path) -> None:
    from tunemerge.stats.predictions import Predictions

    made = Predictions(np.array(["a"], object), np.array([11]), np.arange(12.0)[None], np.ones(1))
    write_predictions(made, tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").outputs.tolist() == [list(range(12))]


def test_several_files_are_one_set(models: list[Path], rows_parquet: RowsFactory) -> None:
    files = [rows_parquet(5, 1, "a"), rows_parquet(6, 2, "b")]
    both = predict(models[:1], files, task=SPEC, precision="float32").predictions
    parts = [predict(models[:1], f, task=SPEC, precision="float32").predictions.outputs for f in files]
    np.testing.assert_allclose(both.outputs, np.concatenate(parts), atol=1e-6)


def test_the_step(models: list[Path], rows_parquet: RowsFactory, tmp_path: Path) -> None:
    told: list[float] = []
    params = {"task": SPEC.as_dict(), "max_length": 32, "precision": "float32", "final": True}
    inputs = {"models": tuple(models[:2]), "rows": (rows_parquet(7),)}
    out = tmp_path / "out"
    out.mkdir()
    cost = run(Job(params, inputs, out, lambda fraction, message: told.append(fraction)))
    assert [f.name for f in out.iterdir()] == ["predictions.parquet"]
    assert cost.forward_examples == 14
    assert told == [0.5, 1.0]
    with hub.one_thread():
        expected = predict(models[:2], inputs["rows"][0], task=SPEC, max_length=32, precision="float32").predictions
    assert np.array_equal(read_predictions(out / "predictions.parquet").outputs, expected.outputs)


def test_no_model_is_refused(rows_parquet: RowsFactory) -> None:
    with pytest.raises(UsageError, match="no model"):
        predict([], rows_parquet(3), task=SPEC)
