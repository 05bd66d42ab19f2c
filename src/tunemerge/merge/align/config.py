"""What config.json tells that names and shapes don't: heads, and how positions enter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunemerge.checkpoint.naming import is_position_table, is_relative_bias

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "nhead")
_SIZES = ("head_dim", "d_kv", "kv_channels")
_TOWERS = {"text": ("text", "language"), "vision": ("vision", "visual", "image"), "audio": ("audio", "speech")}
_ROTARY = re.compile(r"rotary|(^|_)rope(_|$)")
_ROTARY_KINDS = re.compile(r"llama|mi[sx]tral|qwen|gemma|roformer")
"""model_types whose older config.json files say nothing about their rotary embeddings."""


@dataclass(frozen=True)
class Positions:
    """How a model knows the order of its inputs. `known`: something says how, so nothing unseen is at work.

    `rotary`: the dimensions within a query's or key's head are not alike. `slopes`: heads are not alike.
    `unsafe`: positions touch the values too, or heads differ at random; nothing about attention is a symmetry.
    """

    known: bool
    rotary: bool
    slopes: bool
    unsafe: bool


def positions(config: Mapping[str, Any], names: list[str]) -> Positions:
    """Read from config.json and the tensors' names."""
    entries = list(_entries(config))
    kind = str(config.get("model_type"))
    rotary: list[Any] = [value for key, value in entries if _ROTARY.search(key) or value == "rotary"]
    rotary += [kind] * bool(_ROTARY_KINDS.search(kind))
    slopes = kind == "bloom" or any(("alibi" in key or value == "alibi") and value for key, value in entries)
    unsafe = any((key == "rotary_value" and value) or value == "block_sparse" for key, value in entries)
    tables = any(is_position_table(name) or is_relative_bias(name) for name in names)
    told = any(value is not False for value in rotary)
    return Positions(told or slopes or tables, bool(rotary), slopes, unsafe)


def heads(config: Mapping[str, Any], path: str) -> tuple[int | None, int | None]:
    """(heads, elements a head) of the attention at `path`; None for what config.json does not say."""
    settings = _settings(config, path)
    side = next((part for part in path.split(".") if part in ("encoder", "decoder")), None)
    keys = ([f"{side}_attention_heads"] if side else []) + list(_HEADS)
    return _first(settings, keys), _first(settings, _SIZES)


def _settings(config: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """config.json, or the part of it that is about the tower which `path` is in."""
    nested = {key[:-7]: value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)}
    for tower, settings in nested.items():
        if any(word in path.split(".")[0] or f".{word}" in path for word in _TOWERS.get(tower, (tower,))):
            return settings
    return config


def _first(settings: Mapping[str, Any], keys: list[str] | tuple[str, ...]) -> int | None:
    found = [settings[key] for key in keys if settings.get(key) is not None]
    return found[0] if found and type(found[0]) is int and found[0] > 0 else None


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    yield key, value
    for inner, entry in value.items() if isinstance(value, dict) else []:
        yield from _entries(entry, str(inner))
