"""Which of a model's tensors have one row a token.

The size of the vocabulary is `vocab_size` of config.json, where tensors have that many rows, else the rows of the input
embeddings. A tensor of that many rows (or a bias of that many elements, also as (1, n)) is a vocabulary tensor when its
name is one that libraries use for embeddings and output heads (`embed_tokens.weight`, `wte.weight`, `lm_head.weight`,
`cls.predictions.bias`, ...). One with another name counts too, if it stands outside the numbered layers, its name has
nothing of positions, segments or patches, and the size can't be a coincidence: no tensor within the numbered layers has
a dimension of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.naming import has_no_words, is_word_table, may_be_word_head, numbers

PARTS = 4
"""How deep config.json may nest the configs of a model's parts."""


def config_size(config: Mapping[str, Any]) -> int | None:
    """`vocab_size` of config.json, also where it stands in the config of a part (`text_config`)."""
    return next((size for size in _sizes(config, PARTS) if type(size) is int and size > 0), None)


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether a model that has no output head uses its input embeddings: unless config.json says that it does not."""
    text = config.get("text_config")
    parts = [config, text] if isinstance(text, Mapping) else [config]
    said = [part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part]
    return not said or any(said)


def _sizes(config: Mapping[str, Any], depth: int) -> Iterator[Any]:
    yield config.get("vocab_size")
    for part in config.values():
        if isinstance(part, Mapping) and depth:
            yield from _sizes(part, depth - 1)


def vocabulary_tensors(tensors: Mapping[str, TensorInfo], size: int | None) -> dict[str, int]:
    """Name to rows of the tensors with one row a token; `size` is what config.json says, if it says it."""
    rows = {name: _rows(info) for name, info in tensors.items()}
    inputs = [name for name in tensors if is_word_table(name) and len(tensors[name].shape) > 1]
    if size is None or size not in {rows[name] for name in inputs or tensors}:
        size = rows[inputs[0]] if inputs else size
    if not size:
        return {}
    layers = {n for name, info in tensors.items() if numbers(name) for n in info.shape}
    return {
        name: size
        for name in tensors
        if rows[name] == size
        and not has_no_words(name)
        and (is_word_table(name) or may_be_word_head(name) or (size not in layers and not numbers(name)))
    }


def _rows(info: TensorInfo) -> int:
    if len(info.shape) == 2 and info.shape[0] == 1:
        return info.shape[1]
    return info.shape[0] if len(info.shape) in (1, 2) else 0
