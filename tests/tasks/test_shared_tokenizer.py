"""Models of a study mostly have the same tokenizer: it is loaded once, and told from others by its files."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunemerge.tasks import hub


def test_folders_with_the_same_files_share_a_tokenizer(tiny_bert: Path, tmp_path: Path) -> None:
    for name in ("one", "other", "changed"):
        shutil.copytree(tiny_bert, tmp_path / name)
    file = tmp_path / "changed" / "tokenizer.json"
    found = hub.tokenizer_of(tmp_path / "one")
    (tmp_path / "other" / "model.safetensors").write_bytes(b"weights are another matter")
    assert hub.tokenizer_of(tmp_path / "other") is found
    text = "a great film"
    before = found(text, truncation=True, max_length=4)["input_ids"]
    file.write_text(file.read_text().replace('"great"', '"grand"'))
    assert hub.tokenizer_of(tmp_path / "changed")(text)["input_ids"] != found(text)["input_ids"]
    # What was asked for before leaves no trace.
    assert len(found(text)["input_ids"]) == 5
    assert found(text, truncation=True, max_length=4)["input_ids"] == before


def test_those_that_are_made_of_other_files_are_not_shared(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "one")
    (tmp_path / "one" / "tokenizer.json").unlink()
    assert hub.tokenizer_of(tmp_path / "one") is not hub.tokenizer_of(tmp_path / "one")


def test_only_a_few_are_kept(tiny_bert: Path, tmp_path: Path) -> None:
    for number in range(6):
        shutil.copytree(tiny_bert, tmp_path / str(number))
        file = tmp_path / str(number) / "tokenizer_config.json"
        file.write_text(file.read_text().replace("{", f'{{"model_max_length": {100 + number}, ', 1))
        hub.tokenizer_of(tmp_path / str(number))
    assert len(hub._tokenizers) <= 4
