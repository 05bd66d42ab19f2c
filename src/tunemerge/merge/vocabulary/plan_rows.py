"""Where every model has the output's tokens, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tunemerge.findings import Finding, error, note, warning
from tunemerge.merge.vocabulary.request import ModelToken, TokenizerRequest
from tunemerge.merge.vocabulary.rows import ZERO, Overrides, row_map
from tunemerge.merge.vocabulary.tokenizer import Tokenizer
from tunemerge.merge.vocabulary.vocabulary import Rows
from tunemerge.registry import listed


def plan_rows(
    request: TokenizerRequest,
    models: list[str],
    tokenizers: Mapping[str, Tokenizer],
    sizes: Mapping[str, int | None],
    tokenizer: Tokenizer,
    found: list[Finding],
) -> Rows:
    """Where every model has the output's tokens, which tokens are padding, and the rules by number.

    Tokens behind the last one that any model has a row for get none, as in the models.
    """
    tokens = tokenizer.ids
    numbers = np.fromiter(tokens.values(), np.int64, len(tokens))
    maps = np.stack([row_map(tokens, numbers, tokenizer.size, tokenizers[m].ids, sizes[m]) for m in models])
    owned = np.asarray((maps >= 0).any(0))
    asked = np.array([tokens[token] for token in request.tokens], np.int64)
    needed = owned.copy()
    needed[asked] = True
    count = int(np.flatnonzero(needed)[-1]) + 1 if needed.any() else 0
    if not owned.any():
        text = "no model has a row for any token of the output's tokenizer"
        found.append(error("token-without-row", text, "tokenizer", "take the tokenizer of one of the models"))
    owned[[tokens[token] for token, rule in request.tokens.items() if rule.source is not None]] = True
    _tell(tokenizer, numbers, owned, count, found)
    multiple = request.pad_to_multiple_of or 1
    padded = -(-count // multiple) * multiple
    wide = np.full((len(models), padded), -1, np.int64)
    wide[:, :count] = maps[:, :count]
    is_token = np.zeros(padded, np.bool_)
    is_token[numbers[numbers < count]] = True
    return Rows(wide, is_token, _overrides(request, models, tokenizers, tokens))


def _tell(tokenizer: Tokenizer, numbers: Any, owned: Any, count: int, found: list[Finding]) -> None:
    names = list(tokenizer.ids)
    lacking = [names[i] for i in np.flatnonzero(~owned[numbers] & (numbers < count))]
    behind = [names[i] for i in np.flatnonzero(numbers >= count)]
    if lacking:
        some = listed(map(repr, lacking), 3)
        text = f"{len(lacking):,} tokens have no row in any model ({some}): their rows are zero"
        found.append(warning("token-without-row", text, "tokenizer", "give them a source under `tokenizer: tokens:`"))
    if behind:
        some = listed(map(repr, behind), 3)
        text = f"{len(behind):,} tokens lie behind the embeddings of all models ({some}): they stay without rows"
        found.append(note("token-without-row", text, "tokenizer"))


def _overrides(
    request: TokenizerRequest, models: list[str], tokenizers: Mapping[str, Tokenizer], tokens: Mapping[str, int]
) -> Overrides:
    rules = [
        (tokens[token], *_origin(token, rule.source, models, tokenizers), rule.force)
        for token, rule in request.tokens.items()
        if rule.source is not None
    ]
    rows, donors, sources, force = zip(*rules, strict=True) if rules else ((), (), (), ())
    return Overrides(
        np.array(rows, np.int64), np.array(donors, np.int64), np.array(sources, np.int64), np.array(force, bool)
    )


def _origin(token: str, source: Any, models: list[str], tokenizers: Mapping[str, Tokenizer]) -> tuple[int, int]:
    if not isinstance(source, ModelToken):
        return ZERO, -1
    row = tokenizers[source.model].ids[source.token or token] if source.token_id is None else source.token_id
    return models.index(source.model), row
