"""A model's tokenizer, read as data: which token has which number.

The numbers are those that the `tokenizers` library and transformers give, also where they differ from what a file
says: an added token that the model's own vocabulary lacks gets the next free number after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from tunemerge.checkpoint.model import MAX_JSON, inside, read_json
from tunemerge.errors import CheckpointError

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
MAX_ID = 10_000_000
"""No vocabulary is larger; a number above it would only fill the memory."""

_SLOW = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model")
_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
_REMEDY = "load it with transformers where it works and save it again with save_pretrained, which writes tokenizer.json"


@dataclass(frozen=True)
class Tokenizer:
    """`data` is tokenizer.json, `config` tokenizer_config.json (or empty), `ids` every token's number, by number.

    `added` are the tokens that are found in a text before it is split: tokenizer.json's entries with the numbers
    that count. `new` tells that it is no longer the one in `folder`.
    """

    folder: Path
    data: Mapping[str, Any]
    config: Mapping[str, Any]
    ids: Mapping[str, int]
    added: tuple[Mapping[str, Any], ...]
    new: bool = False

    @property
    def kind(self) -> str:
        """BPE, WordPiece, Unigram or WordLevel."""
        return model_kind(self.data["model"])

    @property
    def size(self) -> int:
        """One more than the largest number."""
        return max(self.ids.values(), default=-1) + 1

    @cached_property
    def tokens(self) -> dict[int, str]:
        """Number to token."""
        return {number: token for token, number in self.ids.items()}


def read_tokenizer(folder: Path, known: dict[str, Tokenizer] | None = None) -> Tokenizer | None:
    """The tokenizer in a model folder; None where there are no tokenizer files.

    `known` remembers what was read, by digest, so that the same tokenizer in many folders is parsed once.
    Folders without tokenizer.json go through transformers, where it can (never with a model's own code).
    Raises CheckpointError where files can't be read.
    """
    if (folder / FILE).is_file():
        raw = _bytes(inside(folder, FILE))
    elif any((folder / name).is_file() for name in _SLOW):
        raw = _converted(folder)
    else:
        return None
    config = read_json(inside(folder, CONFIG)) if (folder / CONFIG).is_file() else {}
    named = "special_tokens_map.json"
    special = read_json(inside(folder, named)) if (folder / named).is_file() else {}
    extra = list(_named_tokens(config)) + list(_named_tokens(special))
    digest = hashlib.sha256(raw + json.dumps(extra, sort_keys=True).encode()).hexdigest()
    if known is not None and digest in known:
        return replace(known[digest], folder=folder, config=config)
    data = _parsed(raw, folder / FILE)
    ids, added = _numbers(data, extra, folder / FILE)
    tokenizer = Tokenizer(folder, data, config, ids, added)
    if known is not None:
        known[digest] = tokenizer
    return tokenizer


def model_kind(model: Mapping[str, Any]) -> str:
    """The type of tokenizer.json's `model`; files of early versions don't say it."""
    kind = model.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    if "merges" in model:
        return "BPE"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def model_vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    """Token to number of tokenizer.json's `model`, without added tokens; of two equal pieces the last counts."""
    vocab = model["vocab"]
    return dict(vocab) if isinstance(vocab, dict) else {piece: number for number, (piece, _) in enumerate(vocab)}


def added_token(content: str, number: int, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An entry of tokenizer.json's `added_tokens`."""
    flags = {key: bool((settings or {}).get(key, default)) for key, default in _ADDED.items()}
    return {"id": number, "content": content, **flags}


def _numbers(
    data: Mapping[str, Any], extra: Sequence[Mapping[str, Any]], path: Path
) -> tuple[dict[str, int], tuple[Mapping[str, Any], ...]]:
    """Every token with its number, in order of the numbers, and the added tokens."""
    ids = model_vocabulary(data["model"])
    following = len(data["model"]["vocab"])
    added: dict[str, Mapping[str, Any]] = {}
    for entry in [*data["added_tokens"], *extra]:
        content = entry["content"]
        if not content or content in added:
            continue
        if content not in ids:
            ids[content] = following
            following += 1
        added[content] = added_token(content, ids[content], entry)
    if not ids:
        _refuse(path, "has no tokens")
    if not all(type(number) is int and 0 <= number <= MAX_ID for number in ids.values()):
        _refuse(path, f"a token's number is not a whole number from 0 to {MAX_ID:,}")
    return dict(sorted(ids.items(), key=itemgetter(1))), tuple(added.values())


def _named_tokens(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tokens that transformers adds after tokenizer.json's own: `added_tokens_decoder`, then special ones."""
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for number in sorted((n for n in decoder if n.isdecimal()), key=int):
            if isinstance(decoder[number], dict) and isinstance(decoder[number].get("content"), str):
                yield decoder[number]
    values = [value for key, value in config.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(key)
        values += list(more.values()) if isinstance(more, dict) else more if isinstance(more, list) else []
    for value in values:
        if isinstance(value, str):
            yield {"content": value, "special": True, "normalized": False}
        elif isinstance(value, dict) and isinstance(value.get("content"), str):
            yield {**value, "special": True}


def _parsed(raw: bytes, path: Path) -> dict[str, Any]:
    """tokenizer.json, refused where its parts are not what the library writes."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as problem:
        _refuse(path, f"not JSON: {problem}")
    model = data.get("model") if isinstance(data, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    pairs = isinstance(vocab, list) and all(
        isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], str) and type(piece[1]) in (int, float)
        for piece in vocab
    )
    if model is None or (not isinstance(vocab, dict) and not pairs):
        _refuse(path, "has no model with a vocab")
    if not isinstance(model.get("merges", []), list):
        _refuse(path, "its merges are not a list")
    if data.get("added_tokens") is None:
        data["added_tokens"] = []
    if not isinstance(data["added_tokens"], list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("content"), str) for entry in data["added_tokens"]
    ):
        _refuse(path, "its added_tokens are not a list of tokens with content")
    return data


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_JSON:
            _refuse(path, f"larger than {MAX_JSON:,} bytes")
        return path.read_bytes()
    except OSError as problem:
        _refuse(path, problem.strerror or str(problem))


def _converted(folder: Path) -> bytes:
    """What transformers makes of a vocab.txt, vocab.json or SentencePiece file, as tokenizer.json."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        return str(tokenizer.backend_tokenizer.to_str()).encode()
    except Exception as problem:
        first = str(problem).strip().splitlines() or [type(problem).__name__]
        _refuse(folder, f"its tokenizer has no {FILE}, and transformers can't convert it ({first[0]}); {_REMEDY}")


def _refuse(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}")
