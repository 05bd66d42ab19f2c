"""`tunemerge init`: the file it writes passes `check`; what it can't know it asks, or names the flag."""

import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from corpus import sentences
from tunemerge.cli.app import app
from tunemerge.demo import STUDY
from tunemerge.study.study import Study

REVIEWS = STUDY.parent / "reviews.csv.gz"
DATA = os.environ.get("TUNEMERGE_DATA")


def init(*arguments):
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def passes(file: Path) -> dict:
    """The study in a file that `check` accepts."""
    assert [f for f in Study.check_file(file) if f.severity == "error"] == []
    return yaml.safe_load(file.read_text())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(folder: Path, **more) -> None:
    for seed, name in enumerate(("amazon", "yelp")):
        texts, labels = sentences(300, seed)
        pd.DataFrame({"review": texts, "stars": labels, **more}).to_csv(folder / f"{name}.csv", index=False)


def test_reviews_of_three_sites(here, tiny_bert):
    done = init(REVIEWS, "--task-by", "domain", "--base", tiny_bert, "--minutes", 2, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["file"] == "study.yaml" and document["seconds"][0] <= 120
    assert [t["name"] for t in document["tasks"]] == ["amazon", "imdb", "yelp"]
    study = passes(here / "study.yaml")
    assert study["tasks"]["yelp"]["where"] == {"domain": "yelp"} and study["tasks"]["yelp"]["label"] == "label"
    text = (here / "study.yaml").read_text()
    assert "# inferred: called as answers are; 2 distinct values" in text and "--minutes 2" in text
    assert not (here / ".tunemerge").exists() and not (here / "runs").exists()


def test_all_that_is_missing_comes_at_once_and_nothing_is_written(here):
    texts, labels = sentences(300, 0)
    mood = ["calm", "angry", "sad"] * 100
    table = {"one": texts, "two": sentences(300, 1)[0], "tone": labels, "mood": mood, "site": ["a", "b", "c"] * 100}
    pd.DataFrame({**table, "box_id": [f"b{i // 9}-{i % 3}" for i in range(300)]}).to_csv(here / "t.csv", index=False)
    done = init("t.csv")
    assert done.exit_code == 2 and list(here.iterdir()) == [here / "t.csv"]
    for flag in ("--text two (or one)", "--label", "--unit box_id (or none)", "--task-by site (or none)", "--base"):
        assert f"fix: {flag}" in done.output, flag
    assert texts[0] not in done.output and "angry" not in done.output
    wrong = init("t.csv", "--text", "onee", "--label", "tone", "--unit", "box", "--task-by", "none")
    assert wrong.exit_code == 2 and wrong.output.count("no-such-column") == 2
    assert "did you mean" in wrong.output and not (here / "study.yaml").exists()


def test_a_file_that_is_there_is_kept(here, tiny_bert):
    tables(here)
    (here / "study.yaml").write_text("mine")
    arguments = ("amazon.csv", "yelp.csv", "--base", tiny_bert, "--minutes", 1)
    done = init(*arguments)
    assert done.exit_code == 2 and "--force" in done.output and (here / "study.yaml").read_text() == "mine"
    assert init(*arguments, "--force").exit_code == 0
    study = passes(here / "study.yaml")
    assert study["tasks"]["amazon"]["data"] == "amazon.csv" and study["tasks"]["amazon"]["text"] == "review"


def classifier(folder: Path, base: Path, names: list[str], seed: int) -> str:
    """A BERT with a head whose labels have these names."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(seed)
    config = BertConfig.from_pretrained(
        base, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(base).save_pretrained(folder)
    return folder.name


def test_models_are_matched_and_name_the_labels(here, tiny_bert):
    tables(here)
    for name in ("amazon", "yelp"):
        table = pd.read_csv(here / f"{name}.csv")
        table["stars"] = (table["stars"] == "positive").astype(int)
        table.to_csv(here / f"{name}.csv", index=False)
    models = [
        classifier(here / f"bert-{n}", tiny_bert, ["negative", "positive"], i) for i, n in enumerate(("yelp", "amazon"))
    ]
    given = [flag for model in models for flag in ("--model", model)]
    done = init("amazon.csv", "yelp.csv", *given, "--base", tiny_bert, "--minutes", 1)
    assert done.exit_code == 0, done.output
    study = passes(here / "study.yaml")
    assert study["pool"] == {"yelp": "bert-yelp", "amazon": "bert-amazon"}
    assert study["tasks"]["yelp"]["labels"] == {"0": "negative", "1": "positive"}
    assert "source" not in study["tasks"]["yelp"]["splits"] and "pool_budget" not in study
    assert "# inferred: id2label of bert-yelp" in (here / "study.yaml").read_text()
    # Models for one target need no task of their own.
    done = init("amazon.csv", *given, "--out", "one.yaml", "--minutes", 1)
    assert done.exit_code == 0, done.output
    study = passes(here / "one.yaml")
    assert study["target"] == "amazon" and set(study["pool"]) == {"amazon", "bert-yelp"}


def test_given_splits_numbers_units_and_time(here, tiny_bert):
    (here / "films").mkdir()
    for seed, split in enumerate(("train", "validation", "test")):
        texts, _ = sentences(300 if split == "train" else 80, seed)
        table = pd.DataFrame({"text": texts, "valence": [round(len(t) / 7 + i / 100, 3) for i, t in enumerate(texts)]})
        table.to_parquet(here / "films" / f"{split}-00000-of-00001.parquet")
    done = init("films", "--base", tiny_bert, "--minutes", 1)
    assert done.exit_code == 0, done.output
    study = passes(here / "study.yaml")
    (task,) = study["tasks"].values()
    assert task["kind"] == "text-regression" and task["value"] == "valence" and study["metric"] == "r2"
    assert set(task["files"]) == {"source", "adapt", "validation", "test"} and "splits" not in task
    day = [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(300)]
    tables(here, patient=[f"p{i // 3}" for i in range(300)], date=day)
    done = init("amazon.csv", "yelp.csv", "--base", tiny_bert, "--out", "t.yaml", "--date", "date", "--minutes", 1)
    assert done.exit_code == 0, done.output
    study = passes(here / "t.yaml")
    assert study["splits"]["by"] == "time" and study["tasks"]["amazon"]["unit"] == "patient"


def _until(terminal: int, words: str, within: float = 60.0) -> str:
    """What the terminal shows until it matches."""
    seen, end = "", time.monotonic() + within
    while not re.search(words, seen):
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(terminal, 1 << 14).decode(errors="replace"))
    return seen


def test_in_a_terminal_it_asks(here, tiny_bert):
    parent, child = os.openpty()
    line = [sys.executable, "-m", "tunemerge", "init", str(REVIEWS), "--minutes", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "xterm"}
    process = subprocess.Popen(line, stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    try:
        assert "3 distinct values" in _until(parent, r"--task-by \[domain\]: $")
        os.write(parent, b"nonsense\n")
        assert "not one of these" in _until(parent, r"--task-by \[domain\]: $")
        os.write(parent, b"\n")
        _until(parent, r"--base[^\n]*: $")
        os.write(parent, b"no-such-folder/x/y\n")
        assert "no such file or folder" in _until(parent, r"--base[^\n]*: $")
        os.write(parent, f"{tiny_bert}\n".encode())
        _until(parent, r"--labels \[none\]: $")
        os.write(parent, b"0=bad,1=good\n")
        _until(parent, "tunemerge run study.yaml")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(parent)
    tasks = passes(here / "study.yaml")["tasks"]
    assert set(tasks) == {"amazon", "imdb", "yelp"} and tasks["imdb"]["labels"] == {"0": "bad", "1": "good"}


def test_other_labels_are_other_heads_and_numbers_that_differ_are_asked_about(here, tiny_bert):
    tables(here)
    words = pd.read_csv("yelp.csv").replace({"stars": {"negative": "poor"}})
    words.to_csv("yelp.csv", index=False)
    done = init("amazon.csv", "yelp.csv", "--base", tiny_bert, "--minutes", 1)
    assert done.exit_code == 0, done.output
    assert set(passes(here / "study.yaml")["tasks"]) == {"amazon", "yelp"}
    (here / "study.yaml").unlink()
    numbers = pd.read_csv("yelp.csv").assign(stars=[float(n) / 7 for n in range(300)])
    numbers.rename(columns={"stars": "praise"}).to_csv("tweets.csv", index=False)
    done = init("amazon.csv", "tweets.csv", "--base", tiny_bert, "--minutes", 1)
    assert done.exit_code == 0, done.output
    study = passes(here / "study.yaml")
    assert study["tasks"]["tweets"]["quantity"] == "praise" and study["metric"] == "accuracy_and_r2"
    (here / "study.yaml").unlink()
    for name, codes in (("amazon", {"negative": 0, "positive": 1}), ("yelp", {"poor": 1, "positive": 2})):
        pd.read_csv(f"{name}.csv").replace({"stars": codes}).to_csv(f"{name}.csv", index=False)
    done = init("amazon.csv", "yelp.csv", "--base", tiny_bert, "--minutes", 1)
    assert done.exit_code == 2 and "--only" in done.output and "may mean something else" in done.output


def test_chats_are_for_language_models(here, tiny_gpt):
    chats = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
        for text, label in zip(*sentences(600, 7), strict=True)
    ]
    (here / "chats").mkdir()
    for name, rows in (("x", chats[:300]), ("y", chats[300:])):
        (here / "chats" / f"{name}.jsonl").write_text("\n".join(json.dumps({"talk": c}) for c in rows))
    (here / "chats" / "README.txt").write_text("Talks of two shops.")
    done = init("chats", "--base", tiny_gpt, "--minutes", 1, "--json")
    assert done.exit_code == 0, done.output
    assert [t["kind"] for t in json.loads(done.stdout)["tasks"]] == ["instructions"] * 2
    study = passes(here / "study.yaml")
    assert study["tasks"]["x"]["messages"] == "talk" and study["metric"] == "completion_bits_per_byte"


@pytest.mark.skipif(not DATA, reason="TUNEMERGE_DATA is not set")
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("sentiment_sentences_3_domains", ["--task-by", "domain"]),
        ("banking77", []),
        ("sentiment_valence_4_domains", ["--task-by", "domain"]),
    ],
)
def test_real_sets(here, tiny_bert, name, more):
    done = init(Path(str(DATA)) / name, *more, "--base", tiny_bert)
    assert done.exit_code == 0, done.output
    passes(here / "study.yaml")
