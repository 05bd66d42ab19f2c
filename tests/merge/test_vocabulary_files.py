"""What is written beside the weights: config, tokenizer files, chat templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokenizing import words
from tunemerge.merge.vocabulary import TokenizerRequest, Vocabulary, parse_tokenizer, plan_vocabulary, with_changes


def planned(models: dict[str, Path], base: str | None = None, **data: Any) -> Vocabulary:
    request, findings = parse_tokenizer(data or {"tokenizer_source": "union"})
    assert not findings
    return plan_vocabulary(models, base, request)


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, Path]:
    """a: [UNK] one two <a>; b: two three [UNK] <b>. Their union: [UNK] one two <a> three <b>."""
    return {
        "a": words(tmp_path / "a", ["[UNK]", "one", "two"], added=["<a>"]),
        "b": words(tmp_path / "b", ["two", "three", "[UNK]"], added=["<b>"]),
    }


def write_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(values))


def test_config_follows(pair: dict[str, Path]) -> None:
    write_json(pair["a"] / "config.json", vocab_size=4, bos_token_id=1, eos_token_id=[2, 3], pad_token_id=-1, hidden=4)
    write_json(
        pair["b"] / "config.json",
        vocab_size=4,
        eos_token_id=3,
        text_config={"vocab_size": 4, "bos_token_id": 0},
        image={"vocab_size": 9},
    )
    write_json(pair["b"] / "generation_config.json", eos_token_id=[3, 0], temperature=0.5)
    assert planned(pair).config_changes() == {"config.json": {"vocab_size": 6}}
    assert planned(pair, "b").config_changes() == {"config.json": {"vocab_size": 6, "text_config": {"vocab_size": 6}}}
    # b's config for a's tokenizer: its numbers follow; where a's config has a number, a's token counts
    changes = planned(pair, tokenizer_source="a").config_changes("b")
    assert changes == {
        "config.json": {"eos_token_id": [2, 3], "text_config": {"bos_token_id": 2}},
        "generation_config.json": {"eos_token_id": [2]},  # <b> is no token of a's
    }
    config = json.loads((pair["b"] / "config.json").read_text())
    assert with_changes(config, changes["config.json"]) == {
        "vocab_size": 4,
        "eos_token_id": [2, 3],
        "text_config": {"vocab_size": 4, "bos_token_id": 2},
        "image": {"vocab_size": 9},
    }
    assert planned(pair, chat_template="chatml").config_changes() == {}


def test_a_special_token_that_is_gone_becomes_the_one_of_that_name(pair: dict[str, Path]) -> None:
    write_json(pair["a"] / "tokenizer_config.json", eos_token="<a>")
    write_json(pair["b"] / "config.json", vocab_size=4, eos_token_id=3, bos_token_id=3)
    changes = planned(pair, "b", tokenizer_source="a").config_changes()
    assert changes == {"config.json": {"bos_token_id": None}}  # the end is <a>, which happens to have the number of <b>


def test_files(pair: dict[str, Path], tmp_path: Path) -> None:
    for name in ("vocab.json", "special_tokens_map.json", "chat_template.jinja"):
        (pair["a"] / name).write_bytes(b"{}")
    write_json(pair["a"] / "added_tokens.json", **{"<a>": 3})
    out = tmp_path / "out"
    out.mkdir()
    planned(pair).write(out)
    names = {
        "added_tokens.json",
        "chat_template.jinja",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in out.iterdir()} == names  # vocab.json would say something else
    assert json.loads((out / "added_tokens.json").read_text()) == {"<a>": 3, "<b>": 5}
    assert (out / "tokenizer_config.json").read_bytes() == (pair["a"] / "tokenizer_config.json").read_bytes()


def test_without_a_request_the_tokenizer_is_copied_unread(tmp_path: Path) -> None:
    folder, out = tmp_path / "a", tmp_path / "out"
    folder.mkdir(), out.mkdir()
    (folder / "tokenizer.json").write_text("not even JSON")
    vocabulary = plan_vocabulary({"a": folder}, None, TokenizerRequest())
    vocabulary.write(out)
    assert (out / "tokenizer.json").read_text() == "not even JSON" and vocabulary.config_changes() == {}


def test_chat_templates(tmp_path: Path) -> None:
    templates = {"a": "{{ 1 }}", "b": "{{ 2 }}", "c": None, "d": " {{ 2 }}\n", "e": "{{ 1 }}"}
    models = {}
    for name, text in templates.items():
        settings = {"chat_template": text} if name != "d" else {}
        models[name] = words(tmp_path / name, ["[UNK]", "one"], **settings)
    (models["d"] / "chat_template.jinja").write_text(templates["d"] or "")
    listed = [{"name": "tools", "template": "{{ 3 }}"}, {"name": "default", "template": "{{ 2 }}"}]
    models["f"] = words(tmp_path / "f", ["[UNK]", "one"], chat_template=listed)

    def written(only: str, **data: Any) -> tuple[str | None, Any]:
        out = tmp_path / f"out_{only}_{len(data)}"
        out.mkdir()
        planned({name: models[name] for name in only}, **data).write(out)
        file = out / "chat_template.jinja"
        config = json.loads((out / "tokenizer_config.json").read_text())
        return file.read_text() if file.exists() else None, config.get("chat_template")

    assert written("abcdef", chat_template="auto") == ("{{ 2 }}", None)
    assert written("acbd"[:3], chat_template="auto", tokenizer_source="base") == ("{{ 1 }}", None)  # a tie: the first
    (models["e"] / "chat_template.jinja").write_text("{{ 2 }} ")
    assert written("ade", chat_template="auto") == (
        templates["d"],
        None,
    )  # the space around a template is no difference
    assert written("ab", tokenizer_source="union") == (None, "{{ 1 }}")
    assert written("cd", chat_template="{{ 4 }}", tokenizer_source="union") == ("{{ 4 }}", None)
    assert planned({"c": models["c"]}, chat_template="auto").findings[0].code == "chat-template"
