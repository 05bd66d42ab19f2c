"""Language models: what a prediction is, against transformers' own loss; texts in pieces; counts of bytes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from corpus import sentences
from tunemerge.data.load import read_table
from tunemerge.data.plain_text import pieces
from tunemerge.errors import UsageError
from tunemerge.evaluate.single import evaluate
from tunemerge.findings import FindingsError
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks.files import rows_of_file
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.kinds.language_modelling import LanguageOptions
from tunemerge.tasks.ngrams import byte_ngrams
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, Loaded
from tunemerge.tune.single import tune

KIND = TASKS["language-modelling"]
SPEC = Spec("language-modelling")


def outputs(base: Path, texts: list[str], tmp_path: Path, max_length: int = 64) -> tuple[Loaded, np.ndarray]:
    file = tmp_path / "rows.parquet"
    pd.DataFrame({"text": texts, "unit": "u", "weight": 1.0}).to_parquet(file)
    rows, model = KIND.read([file], SPEC), KIND.load(base, SPEC)
    return model, predictions(model, KIND.encode(model, rows, max_length), "float32")


@pytest.mark.parametrize("base", ["tiny_gpt", "tiny_llama"])
def test_a_row_is_as_likely_as_transformers_finds_it(base: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    import torch

    from tunemerge.tasks.hub import tokenizer_of

    folder = request.getfixturevalue(base)
    texts = ["the plot was awful", "a näive café", "it is 5 o'clock\nand so on"]
    model, found = outputs(folder, texts, tmp_path)
    tokenizer = tokenizer_of(folder)
    for text, (nats, tokens, size) in zip(texts, found, strict=True):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            own = float(model.net(input_ids=ids, labels=ids).loss)
        assert nats / tokens == pytest.approx(own, rel=1e-5)
        assert (tokens, size) == (ids.shape[1] - 1, len(text.encode()))


def test_a_row_that_is_cut_counts_the_bytes_that_are_read(tiny_gpt: Path, tmp_path: Path) -> None:
    text = "ü" * 40  # no merged tokens: two a letter
    _, found = outputs(tiny_gpt, [text, "ab"], tmp_path, max_length=21)
    assert found[0, 1:].tolist() == [20, 20] and found[1, 2] == 2


def test_several_models_are_a_mixture(tiny_gpt: Path, tmp_path: Path) -> None:
    one = np.array([[2.0, 3, 4], [700.0, 3, 4]])
    two = np.array([[5.0, 3, 4], [900.0, 3, 4]])
    mixed = KIND.ensemble([one, two])
    assert mixed[0, 0] == pytest.approx(-np.log((np.exp(-2) + np.exp(-5)) / 2))
    assert mixed[1, 0] == pytest.approx(700 + np.log(2)) and mixed[:, 1:].tolist() == [[3, 4], [3, 4]]


def test_counts_of_bytes_are_probabilities() -> None:
    train, before = ["abracadabra", "a cab"], "abra"
    every = [before + chr(c) for c in range(128)]
    whole = byte_ngrams(train, every, 4) - byte_ngrams(train, [before], 4)
    # Bytes from 128 on are no text alone; never seen, each is as likely as any other unseen byte.
    unseen = float(np.exp(-whole[ord("z")]))
    assert float(np.exp(-whole).sum()) + 128 * unseen == pytest.approx(1.0)
    assert np.exp(-whole[ord("c")]) > 0.4 > np.exp(-whole[ord("b")])


def test_long_texts_are_cut_at_ends_of_lines_and_no_character_is_lost(tmp_path: Path) -> None:
    lines = [f"{sentence}\n" for sentence in sentences(60, 3)[0]]
    found = list(pieces("".join(lines), 200))
    assert "".join(found) == "".join(lines) and max(map(len, found)) <= 200
    assert all(piece.endswith("\n") for piece in found)
    assert list(pieces("x" * 70, 32)) == ["x" * 32, "x" * 32, "x" * 6]
    file = tmp_path / "book.txt.gz"
    file.write_bytes(gzip.compress("".join(lines).encode()))
    rows = rows_of_file(file, KIND, LanguageOptions(chunk=200))
    assert list(rows["text"]) == found and rows["unit"].nunique() == -(-len(found) // 8)


def test_a_row_of_a_table_is_a_document(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    pd.DataFrame({"text": ["word " * 100, "short"]}).to_csv(file, index=False)
    rows = rows_of_file(file, KIND, LanguageOptions(chunk=200))
    assert rows["unit"].tolist() == ["1"] * 3 + ["2"]


def test_a_text_of_another_encoding_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes("one\ntwo\ncaf\xe9".encode("latin-1"))
    with pytest.raises(UsageError, match="0xe9 in line 3 is not UTF-8"):
        read_table(tmp_path / "l.txt")


def test_tuned_alone_a_text_becomes_likelier_and_others_are_refused(
    tiny_gpt: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    text = "\n".join(sentences(120, 2)[0])
    (tmp_path / "t.txt").write_text(text)
    settings = {"task": "language-modelling", "chunk": 100, "learning_rate": 3e-3, "batch_size": 8}
    tune(tiny_gpt, tmp_path / "t.txt", tmp_path / "out", epochs=2, **settings)
    known = {"task": "language-modelling", "chunk": 100}
    before, after = (evaluate(m, tmp_path / "t.txt", **known).metrics for m in (tiny_gpt, tmp_path / "out"))
    assert after["bits_per_byte"].value > before["bits_per_byte"].value + 0.5  # estimates: higher is better
    assert set(after) == {name for name, m in METRICS if m.prediction == "likelihood"}
    with pytest.raises(FindingsError, match=r"needs a causal language model .* says BertModel"):
        tune(tiny_bert, tmp_path / "t.txt", tmp_path / "no", **settings)
    with pytest.raises(FindingsError, match="has no head of its own"):
        tune(tiny_gpt, tmp_path / "t.txt", tmp_path / "no", method="head", **settings)
