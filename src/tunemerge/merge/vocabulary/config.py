"""config.json and generation_config.json follow the vocabulary: its size, and the numbers of special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunemerge.merge.vocabulary.tensors import PARTS
from tunemerge.merge.vocabulary.tokenizer import Tokenizer

_ID_KEYS = ("_token_id", "_token_index")


def changed_keys(
    config: Mapping[str, Any],
    guide: Mapping[str, Any],
    old: Tokenizer,
    guiding: Tokenizer,
    new: Tokenizer,
    size: int | None,
    rows: int,
    depth: int = PARTS,
) -> dict[str, Any]:
    """The keys of `config` (written for the tokenizer `old`) that have other values under `new`, nested as in it.

    `vocab_size` becomes `rows`, wherever it is `size`, what the model has now. A token's number is taken from `guide`,
    the same file of the model with the tokenizer `guiding`, where that has the key, else from `config`; the token is
    looked up in `new`. One that `new` lacks becomes the special token of that name in tokenizer_config.json, or null.
    """
    out: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and depth:
            part = guide.get(key)
            inner = changed_keys(
                value, part if isinstance(part, Mapping) else {}, old, guiding, new, size, rows, depth - 1
            )
            if inner:
                out[key] = inner
        elif key == "vocab_size" and value == size:
            out[key] = rows
        elif key.endswith(_ID_KEYS):
            given = guide.get(key)
            out[key] = _moved(key, value, old, new) if given is None else _moved(key, given, guiding, new)
    return {key: value for key, value in out.items() if value != config[key]}


def with_changes(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `config` with the values of `changes`, part by part."""
    nested = {
        key: with_changes(config[key], value)
        for key, value in changes.items()
        if isinstance(value, Mapping) and isinstance(config.get(key), Mapping)
    }
    return {**config, **changes, **nested}


def _moved(key: str, value: Any, old: Tokenizer, new: Tokenizer) -> Any:
    """A number, or a list of them, in the new numbering; negative ones mean no token and stay."""
    if isinstance(value, list):
        found = [_number(n, old, new) for n in value]
        return [n for n in dict.fromkeys(found) if n is not None] or _named(key, new)
    if type(value) is not int:
        return value
    number = _number(value, old, new)
    return _named(key, new) if number is None else number


def _number(value: Any, old: Tokenizer, new: Tokenizer) -> Any:
    if type(value) is not int or value < 0:
        return value
    token = old.tokens.get(value)
    return None if token is None else new.ids.get(token)


def _named(key: str, new: Tokenizer) -> int | None:
    value = new.config.get(key.removesuffix("_id").removesuffix("_index"))
    content = value.get("content") if isinstance(value, Mapping) else value
    return new.ids.get(content) if isinstance(content, str) else None
