"""What a recipe asks of the tokenizer: `tokenizer_source`, `tokenizer` and `chat_template`, read strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunemerge.findings import Finding, error
from tunemerge.merge.vocabulary.chat import read_chat_template
from tunemerge.registry import nearest
from tunemerge.yamlfile import KeyPath

MAX_MULTIPLE = 65_536
"""The largest `pad_to_multiple_of`: far beyond what any hardware likes, far below what would fill a memory."""

_TOKENIZER = ("source", "tokens", "pad_to_multiple_of")
_RULE = ("source", "force")
_MODEL_TOKEN = ("kind", "model", "token", "token_id")


@dataclass(frozen=True)
class ModelToken:
    """A row of a model's embeddings: of `token`, of the number `token_id`, or where both are None of the same token."""

    model: str
    token: str | None = None
    token_id: int | None = None


@dataclass(frozen=True)
class TokenRule:
    """Where a token's row comes from in models that lack it, and with `force` in those that have it as well.

    `source` None: by the general rule (see `rows.py`).
    """

    source: ModelToken | Literal["zero"] | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerRequest:
    """The tokenizer of the output.

    `source` is "union", "base", a model, or None: the tokenizer of the base or of the first model, no row is moved.
    `tokens` are rules for single tokens; one that the tokenizer lacks is added to it. `pad_to_multiple_of` rounds
    the rows of the embeddings up. `chat_template` is "auto", the text of a template, or None: the tokenizer's own.
    """

    source: str | None = None
    tokens: Mapping[str, TokenRule] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None
    chat_template: str | None = None

    def models(self) -> tuple[str, ...]:
        """The models that are named here, in order, each once."""
        named = [self.source] if self.source not in (None, "union", "base") else []
        named += [rule.source.model for rule in self.tokens.values() if isinstance(rule.source, ModelToken)]
        return tuple(dict.fromkeys(name for name in named if name is not None))


def parse_tokenizer(
    data: Mapping[Any, Any], folders: tuple[Path, ...] = (Path(),)
) -> tuple[TokenizerRequest, list[tuple[KeyPath, Finding]]]:
    """The request in a recipe's top level, and everything wrong with it: (key path, finding).

    A chat template that is a file is looked for in `folders`, in order, and read. Where there are findings of
    severity error the request is not complete.
    """
    found: list[tuple[KeyPath, Finding]] = []
    source = _source(data.get("tokenizer_source"), ("tokenizer_source",), found)
    tokens: dict[str, TokenRule] = {}
    multiple = None
    given = data.get("tokenizer")
    if given is not None:
        at: KeyPath = ("tokenizer",)
        if source is not None:
            text = "tokenizer_source and tokenizer both say where the tokenizer comes from"
            found.append((at, error("recipe-tokenizer", text, remedy="keep one; `tokenizer: {source: ...}` says all")))
        if isinstance(given, dict):
            found += _unknown(given, _TOKENIZER, at)
            source = _source(given.get("source") or "union", (*at, "source"), found)
            tokens = _tokens(given.get("tokens"), (*at, "tokens"), found)
            multiple = _multiple(given.get("pad_to_multiple_of"), (*at, "pad_to_multiple_of"), found)
        else:
            text = f"tokenizer is a mapping with source, tokens, pad_to_multiple_of, not {given!r}"
            found.append((at, error("recipe-tokenizer", text, remedy="or write `tokenizer_source: union`")))
    template, problem = read_chat_template(data.get("chat_template"), folders)
    if problem:
        found.append((("chat_template",), error("recipe-chat-template", problem)))
    return TokenizerRequest(source, tokens, multiple, template), found


def _source(value: Any, at: KeyPath, found: list[tuple[KeyPath, Finding]]) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    found.append((at, error("recipe-tokenizer", f"the tokenizer's source is union, base or a model, not {value!r}")))
    return None


def _multiple(value: Any, at: KeyPath, found: list[tuple[KeyPath, Finding]]) -> int | None:
    if value is None or (type(value) is int and 1 <= value <= MAX_MULTIPLE):
        return value
    text = f"pad_to_multiple_of is a whole number from 1 to {MAX_MULTIPLE:,}, not {value!r}"
    found.append((at, error("recipe-tokenizer", text)))
    return None


def _tokens(given: Any, at: KeyPath, found: list[tuple[KeyPath, Finding]]) -> dict[str, TokenRule]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        found.append((at, error("recipe-tokenizer", "tokens is a mapping from a token to its source")))
        return {}
    rules = {}
    for token, value in given.items():
        if not isinstance(token, str) or not token:
            text = f"a token is text, not {token!r}"
            found.append(((*at, token), error("recipe-tokenizer", text, remedy="put it in quotes")))
            continue
        rules[token] = _rule(value, (*at, token), found)
    return rules


def _rule(value: Any, at: KeyPath, found: list[tuple[KeyPath, Finding]]) -> TokenRule:
    value = {} if value is None else value
    if not isinstance(value, dict):
        text = f"a token has source and force, not {value!r}"
        found.append((at, error("recipe-tokenizer", text, remedy="write `{source: MODEL}`")))
        return TokenRule()
    found += _unknown(value, _RULE, at)
    force = value.get("force", False)
    if not isinstance(force, bool):
        found.append(((*at, "force"), error("recipe-tokenizer", f"force is true or false, not {force!r}")))
    source = _row(value.get("source"), (*at, "source"), found)
    if force is True and value.get("source") is None:
        text = "force says that the source counts in every model, but there is no source"
        found.append((at, error("recipe-tokenizer", text, remedy="add a source, or remove force")))
    return TokenRule(source, force is True)


def _row(value: Any, at: KeyPath, found: list[tuple[KeyPath, Finding]]) -> ModelToken | Literal["zero"] | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip():
        return ModelToken(value)
    if isinstance(value, dict) and value.get("kind") == "zero":
        found += _unknown(value, ("kind",), at)
        return "zero"
    if isinstance(value, dict) and value.get("kind") == "model_token":
        found += _unknown(value, _MODEL_TOKEN, at)
        problems = list(_model_token_problems(value))
        found += [(at, error("recipe-tokenizer", text)) for text in problems]
        return None if problems else ModelToken(value["model"], value.get("token"), value.get("token_id"))
    text = f"a token's source is a model, {{kind: zero}} or {{kind: model_token, ...}}, not {value!r}"
    found.append((at, error("recipe-tokenizer", text)))
    return None


def _model_token_problems(value: Mapping[Any, Any]) -> Iterator[str]:
    model, token, number = value.get("model"), value.get("token"), value.get("token_id")
    if not isinstance(model, str) or not model.strip():
        yield f"a model_token names its model, not {model!r}"
    if (token is None) == (number is None):
        yield "a model_token has either token or token_id"
    if token is not None and (not isinstance(token, str) or not token):
        yield f"token is text, not {token!r}"
    if number is not None and (type(number) is not int or number < 0):
        yield f"token_id is a whole number from 0 on, not {number!r}"


def _unknown(given: Mapping[Any, Any], known: tuple[str, ...], at: KeyPath) -> list[tuple[KeyPath, Finding]]:
    return [
        ((*at, key), error("recipe-key", f"unknown key {key!r}{nearest(str(key), list(known))}"))
        for key in given
        if key not in known
    ]
