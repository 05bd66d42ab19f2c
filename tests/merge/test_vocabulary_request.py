"""What a recipe may say about tokenizer and chat template, and how it is told what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunemerge.merge.vocabulary import ModelToken, TokenizerRequest, TokenRule, parse_tokenizer
from tunemerge.merge.vocabulary.chat import TEMPLATES


def test_every_form() -> None:
    assert parse_tokenizer({}) == (TokenizerRequest(), [])
    assert parse_tokenizer({"tokenizer_source": "union"}) == (TokenizerRequest("union"), [])
    assert parse_tokenizer({"tokenizer_source": "org/model"})[0].models() == ("org/model",)
    assert parse_tokenizer({"tokenizer": {"pad_to_multiple_of": 64}}) == (TokenizerRequest("union", {}, 64), [])
    tokens = {
        "<a>": {"source": "A"},
        "<b>": {"source": {"kind": "model_token", "model": "B", "token": "<x>"}, "force": True},
        "<c>": {"source": {"kind": "model_token", "model": "A", "token_id": 7}},
        "<d>": {"source": {"kind": "zero"}},
        "<e>": None,
    }
    request, findings = parse_tokenizer({"tokenizer": {"source": "base", "tokens": tokens}, "chat_template": "auto"})
    assert not findings
    assert request == TokenizerRequest(
        "base",
        {
            "<a>": TokenRule(ModelToken("A")),
            "<b>": TokenRule(ModelToken("B", "<x>"), force=True),
            "<c>": TokenRule(ModelToken("A", token_id=7)),
            "<d>": TokenRule("zero"),
            "<e>": TokenRule(),
        },
        None,
        "auto",
    )
    assert request.models() == ("A", "B")


@pytest.mark.parametrize(
    ("data", "at", "says"),
    [
        ({"tokenizer_source": 3}, ("tokenizer_source",), "union, base or a model, not 3"),
        ({"tokenizer_source": "base", "tokenizer": {}}, ("tokenizer",), "both say"),
        ({"tokenizer": "union"}, ("tokenizer",), "a mapping"),
        ({"tokenizer": {"tokns": {}}}, ("tokenizer", "tokns"), "did you mean 'tokens'?"),
        ({"tokenizer": {"source": ["A"]}}, ("tokenizer", "source"), "not ['A']"),
        ({"tokenizer": {"pad_to_multiple_of": 0}}, ("tokenizer", "pad_to_multiple_of"), "from 1 to 65,536, not 0"),
        ({"tokenizer": {"pad_to_multiple_of": True}}, ("tokenizer", "pad_to_multiple_of"), "not True"),
        ({"tokenizer": {"pad_to_multiple_of": 10**9}}, ("tokenizer", "pad_to_multiple_of"), "65,536"),
        ({"tokenizer": {"tokens": ["<a>"]}}, ("tokenizer", "tokens"), "a mapping"),
        ({"tokenizer": {"tokens": {7: {}}}}, ("tokenizer", "tokens", 7), "text, not 7"),
        ({"tokenizer": {"tokens": {"<a>": "A"}}}, ("tokenizer", "tokens", "<a>"), "source and force"),
        ({"tokenizer": {"tokens": {"<a>": {"model": "A"}}}}, ("tokenizer", "tokens", "<a>", "model"), "'model'"),
        ({"tokenizer": {"tokens": {"<a>": {"force": True}}}}, ("tokenizer", "tokens", "<a>"), "no source"),
        ({"tokenizer": {"tokens": {"<a>": {"force": 1}}}}, ("tokenizer", "tokens", "<a>", "force"), "not 1"),
        (
            {"tokenizer": {"tokens": {"<a>": {"source": {"kind": "mean"}}}}},
            ("tokenizer", "tokens", "<a>", "source"),
            "kind: zero",
        ),
        (
            {"tokenizer": {"tokens": {"<a>": {"source": {"kind": "model_token", "model": "A"}}}}},
            ("tokenizer", "tokens", "<a>", "source"),
            "either token or token_id",
        ),
        (
            {"tokenizer": {"tokens": {"<a>": {"source": {"kind": "model_token", "model": "A", "token_id": -1}}}}},
            ("tokenizer", "tokens", "<a>", "source"),
            "from 0 on, not -1",
        ),
        ({"chat_template": "chatlm"}, ("chat_template",), "did you mean 'chatml'"),
        (
            {"chat_template": "nowhere.jinja"},
            ("chat_template",),
            "accepted: auto, a file, Jinja text, or one of chatml",
        ),
        ({"chat_template": 1}, ("chat_template",), "not 1"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(data: dict[str, Any], at: tuple[Any, ...], says: str) -> None:
    _, findings = parse_tokenizer(data)
    assert [where for where, _ in findings] == [at]
    assert findings[0][1].severity == "error"
    assert says in str(findings[0][1])


def test_all_findings_at_once() -> None:
    data = {"tokenizer": {"source": 1, "pad_to_multiple_of": -1, "tokens": {"<a>": 1}}, "chat_template": "x"}
    assert len(parse_tokenizer(data)[1]) == 4


def test_a_chat_template_is_a_name_a_file_or_text(tmp_path: Path) -> None:
    assert parse_tokenizer({"chat_template": "chatml"})[0].chat_template == TEMPLATES["chatml"]
    assert parse_tokenizer({"chat_template": "{{ messages }}"})[0].chat_template == "{{ messages }}"
    (tmp_path / "mine.jinja").write_bytes("{{ 'ü' }}\r\n".encode())
    request, findings = parse_tokenizer({"chat_template": "mine.jinja"}, (tmp_path / "elsewhere", tmp_path))
    assert not findings
    assert request.chat_template == "{{ 'ü' }}\r\n"
    (tmp_path / "broken.jinja").write_bytes(b"\xff\xfe")
    assert "UTF-8" in str(parse_tokenizer({"chat_template": "broken.jinja"}, (tmp_path,))[1][0][1])


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
            "Hello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "alpaca",
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nBye\n\n### Response:\n",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("mistral", "<s> [INST] Be brief.\n\nHi [/INST] Hello</s> [INST] Bye [/INST]"),
        (
            "exaone",
            "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n[|user|]Bye\n[|assistant|]",
        ),
    ],
)
def test_the_bundled_templates_give_the_published_formats(name: str, text: str) -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATES[name])
    given = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    assert template.render(messages=CONVERSATION, **given) == text
    assert template.render(messages=CONVERSATION[1:3], **{**given, "add_generation_prompt": False}).count("Hello") == 1


def test_every_bundled_template_is_checked() -> None:
    assert set(TEMPLATES) == {"chatml", "alpaca", "llama3", "mistral", "exaone"}
