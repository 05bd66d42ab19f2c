"""`tunemerge.predict`: what a model says of rows without answers."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from commands import command
from small import TUNING, write_table
from tunemerge.errors import UsageError
from tunemerge.evaluate.answers import predict
from tunemerge.evaluate.single import evaluate
from tunemerge.findings import FindingsError
from tunemerge.tune.single import tune


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("answered")
    write_table(folder / "rows.csv", 40, 1)
    tune(tiny_bert, folder / "rows.csv", folder / "tuned", epochs=12, **TUNING)
    return folder


def test_it_says_what_evaluate_judges_whatever_the_labels(tuned, tmp_path):
    evaluate(tuned / "tuned", tuned / "rows.csv", predictions=tmp_path / "p.parquet")
    logits = pq.read_table(tmp_path / "p.parquet").select(["logit_0", "logit_1"]).to_pandas().to_numpy()
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = pd.read_csv(tuned / "rows.csv")
    rows.drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
    rows.assign(label="nonsense").to_csv(tmp_path / "false.csv", index=False)
    found = predict(tuned / "tuned", tmp_path / "new.csv")
    assert list(found.columns) == ["row", "predicted", "p(negative)", "p(positive)"]
    assert found["row"].tolist() == list(range(1, len(rows) + 1))
    np.testing.assert_allclose(found[["p(negative)", "p(positive)"]], likely, atol=1e-12)
    assert found["predicted"].tolist() == [("negative", "positive")[i] for i in likely.argmax(axis=1)]
    assert set(found["predicted"]) == {"negative", "positive"}
    assert predict(tuned / "tuned", tmp_path / "false.csv").equals(found)


def test_a_number_comes_in_its_unit(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 40, 1)
    rows = pd.read_csv(tmp_path / "rows.csv")
    rows.assign(price=1000 + 50 * (rows["label"] == "positive")).to_csv(tmp_path / "rows.csv", index=False)
    kind = {"task": "text-regression", "value": "price"}
    tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "tuned", epochs=1, **kind, **TUNING)
    rows[["text"]].to_csv(tmp_path / "new.csv", index=False)
    found = predict(tmp_path / "tuned", tmp_path / "new.csv", **kind)
    assert list(found.columns) == ["row", "predicted"] and found["predicted"].between(900, 1150).all()


def test_several_labels_a_text(tmp_path, tiny_bert):
    write_table(tmp_path / "rows.csv", 40, 1)
    rows = pd.read_csv(tmp_path / "rows.csv")
    rows.assign(labels=["short;" + x for x in rows["label"]]).to_csv(tmp_path / "rows.csv", index=False)
    tune(tiny_bert, tmp_path / "rows.csv", tmp_path / "tuned", epochs=3, task="text-multilabel", **TUNING)
    found = predict(tmp_path / "tuned", tmp_path / "rows.csv", task="text-multilabel")
    assert all("short" in x.split(";") for x in found["predicted"]) and (found["p(short)"] > 0.5).all()


def test_the_command_writes_a_file_and_counts(tuned, tmp_path):
    said = command("predict", tuned / "tuned", tuned / "rows.csv", "out.jsonl", cwd=tmp_path)
    assert said.returncode == 0 and "40 rows: " in said.stdout, said.stderr
    found = pd.read_json(tmp_path / "out.jsonl", lines=True)
    assert len(found) == 40 and f"positive {(found['predicted'] == 'positive').sum()}" in said.stdout
    wrong = command("predict", tuned / "tuned", tuned / "rows.csv", "out.doc", cwd=tmp_path)
    assert wrong.returncode == 2 and "expected one of .csv, .jsonl, .parquet" in wrong.stderr


def test_what_it_refuses(tuned, tmp_path, tiny_bert):
    with pytest.raises(UsageError, match="neither labels nor a number"):
        predict(tuned / "tuned", tuned / "rows.csv", task="language-modelling")
    with pytest.raises(UsageError, match="no head for text-classification"):
        predict(tiny_bert, tuned / "rows.csv")
    with pytest.raises(FindingsError, match="no column 'review'"):
        predict(tuned / "tuned", tuned / "rows.csv", text="review")
