"""One tokenizer out of several of the same kind.

The first tokenizer's tokens keep their numbers and it stays what splits texts; the tokens that it lacks follow, in the
order of the other tokenizers and of their own numbers. So a text of the first model is split as before wherever no
token of the others fits better, and the others' tokens are reached by the same means as in their own tokenizer:

- BPE: the merges of the others come after those of the first, in order, each pair once.
- WordPiece, WordLevel: the words join the vocabulary (the longest piece that fits wins).
- Unigram: pieces keep their own scores, which are log-probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from tunemerge.errors import CheckpointError
from tunemerge.merge.vocabulary.tokenizer import FILE, Tokenizer, added_token, model_vocabulary

_SPLITTING = ("normalizer", "pre_tokenizer", "decoder")
_MODEL_SPLITTING = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")


def differences(first: Tokenizer, other: Tokenizer) -> list[str]:
    """The parts that decide how a text is split, other than the vocabulary, in which two tokenizers differ."""
    parts = [key for key in _SPLITTING if first.data.get(key) != other.data.get(key)]
    ours, theirs = first.data["model"], other.data["model"]
    return parts + [key for key in _MODEL_SPLITTING if (ours.get(key) or None) != (theirs.get(key) or None)]


def union(first: Tokenizer, others: Sequence[Tokenizer], more: Mapping[str, Mapping[str, Any]]) -> Tokenizer:
    """`first` with the tokens of `others`, all of its kind, and with the added tokens `more` (their flags by content).

    `first` itself where nothing is new. Raises CheckpointError where the `tokenizers` library does not read the
    result, or numbers its tokens in another way.
    """
    new = [token for token in dict.fromkeys(chain(*(other.ids for other in others), more)) if token not in first.ids]
    ids = {**first.ids, **dict(zip(new, range(first.size, first.size + len(new)), strict=True))}
    flags = {entry["content"]: entry for entry in first.added}
    for entry in chain(*(other.added for other in others)):
        flags.setdefault(entry["content"], entry)
    for content in more:
        if content in new:
            flags.setdefault(content, more[content])
    added = tuple(sorted((added_token(c, ids[c], entry) for c, entry in flags.items()), key=lambda entry: entry["id"]))
    merges = _merges(first, others)
    if not new and len(added) == len(first.added) and merges is None:
        return first
    model = _model(first, others, ids, added)
    if merges is not None:
        model["merges"] = merges
    data = {**first.data, "added_tokens": list(added), "model": model}
    _verify(data, ids, first)
    return Tokenizer(first.folder, data, first.config, ids, added, new=True)


def _merges(first: Tokenizer, others: Sequence[Tokenizer]) -> list[list[str]] | None:
    """The merges of all, each pair once; None where no one has more than the first."""
    if "merges" not in first.data["model"]:
        return None
    own = list(_pairs(first))
    pairs = dict.fromkeys(chain(own, *(_pairs(other) for other in others if other.data is not first.data)))
    return [list(pair) for pair in pairs] if len(pairs) > len(set(own)) else None


def _pairs(tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    for merge in tokenizer.data["model"].get("merges", []):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], str):
            raise CheckpointError(f"{tokenizer.folder / FILE}: the merge {merge!r} is not a pair of tokens")
        yield pair[0], pair[1]


def _model(
    first: Tokenizer, others: Sequence[Tokenizer], ids: Mapping[str, int], added: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The first's `model` with the new tokens of the others' models.

    The library numbers an added token that is not in the vocabulary by itself, from the vocabulary's size on. Where
    that would be another number than ours, all added tokens join the vocabulary; no text gets to them there, since
    added tokens are cut out of it before.
    """
    model = dict(first.data["model"])
    known = set(model_vocabulary(model))
    known |= {
        token for other in others if other.data is not first.data for token in model_vocabulary(other.data["model"])
    }
    size = len(model["vocab"]) + len(known) - len(model_vocabulary(model))
    outside = [entry["id"] for entry in added if entry["content"] not in known]
    if outside != list(range(size, size + len(outside))):
        known |= {entry["content"] for entry in added}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {token: number for token, number in ids.items() if token in known}
        return model
    scores: dict[str, float] = {}
    for other in others:
        for piece, score in other.data["model"]["vocab"]:
            scores.setdefault(piece, score)
    lowest = min((score for _, score in model["vocab"]), default=0.0)
    behind = [token for token, number in ids.items() if number >= len(model["vocab"]) and token in known]
    model["vocab"] = [*model["vocab"], *([token, scores.get(token, lowest)] for token in behind)]
    return model


def _verify(data: Mapping[str, Any], ids: Mapping[str, int], first: Tokenizer) -> None:
    from tokenizers import Tokenizer as Backend

    path = first.folder / FILE
    try:
        found = Backend.from_str(json.dumps(data, ensure_ascii=False)).get_vocab(with_added_tokens=True)
    except Exception as problem:
        raise CheckpointError(f"{path}: the tokenizers library refuses its union with the others: {problem}") from None
    if found != dict(ids):
        odd = next(token for token in chain(ids, found) if ids.get(token) != found.get(token))
        text = f"the tokenizers library gives {odd!r} the number {found.get(odd)}, not {ids.get(odd)}"
        raise CheckpointError(f"{path}: its union with the others can't be written: {text}")
