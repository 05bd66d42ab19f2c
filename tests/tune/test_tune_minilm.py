"""The whole chain on a real pretrained encoder, on sentences made here, or on real reviews where the data is given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from corpus import LABELS, SPEC, RowsFactory, sentences
from tunemerge.evaluate.predict import predict
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks.task import TASKS
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model

TASK = TASKS["text-classification"]
Split = tuple[list[str], list[str]]


def _reviews() -> tuple[Split, Split] | None:
    file = Path(os.environ.get("TUNEMERGE_DATA", "")) / "sentiment_sentences_3_domains" / "labelled_sentences.csv.gz"
    if "TUNEMERGE_DATA" not in os.environ or not file.is_file():
        return None
    table = pd.read_csv(file).sample(frac=1, random_state=0)
    texts, labels = table["text"].tolist(), [LABELS[int(label)] for label in table["label"]]
    return (texts[:800], labels[:800]), (texts[800:1200], labels[800:1200])


def test_minilm_learns_and_its_cost_is_the_analytic_one(
    minilm: Path, rows_parquet: RowsFactory, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    train, test = _reviews() or (sentences(200, 1), sentences(100, 2))
    files = [rows_parquet(texts=t, labels=l, name=n) for (t, l), n in ((train, "train"), (test, "test"))]
    start, out = tmp_path / "start", tmp_path / "out"
    start.mkdir()
    TASK.initialise(minilm, start, SPEC, 0)
    examples = len(train[0])
    tuned = tune_model(
        start, out, files[:1], task=SPEC, seed=0, examples=examples, config=TuneConfig(learning_rate=1e-4)
    )
    found = predict([out], files[1], task=SPEC)
    p = found.predictions
    assert METRICS["accuracy"].fn(p.target, p.outputs, p.weight) > 0.8
    assert len(AutoModelForSequenceClassification.from_pretrained(out).config.id2label) == 2

    # 2 operations a parameter and token, all but the embeddings; attention adds 1.5% at these lengths. Padding counts.
    config = AutoModelForSequenceClassification.from_pretrained(start).config
    matrices = config.num_hidden_layers * (
        4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    )
    per_token = tuned.cost.train_flops / tuned.cost.tokens
    assert 6 * matrices < per_token < 1.3 * 6 * matrices
    assert tuned.cost.examples == examples
    model = TASK.load(out, SPEC)
    lengths = TASK.encode(model, TASK.read(files[1:], SPEC), 256).lengths
    longest_first = -np.sort(-lengths)
    padded = sum(-(-part[0] // 4) * 4 * len(part) for part in np.split(longest_first, range(32, len(lengths), 32)))
    assert found.cost.forward_flops == pytest.approx(2 * matrices * padded, rel=0.03)
