"""How likely texts are by counts of bytes: a control that needs no model and no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SYMBOLS = 257  # the bytes, and a sign for what is before the beginning


class _Counts(NamedTuple):
    """Sorted: contexts with the following byte and their counts, contexts with their counts and kinds of next byte."""

    pairs: np.ndarray
    pair_counts: np.ndarray
    contexts: np.ndarray
    context_counts: np.ndarray
    followers: np.ndarray


def byte_ngrams(train: Sequence[str], rows: Sequence[str], order: int) -> np.ndarray:
    """Minus the log likelihood of each row in nats, float64 (n,), by n-grams of up to `order` bytes in `train`.

    Interpolated as Witten and Bell do (1991): p_k(c | h) = (count(h c) + T(h) p_{k-1}(c | h')) / (count(h) + T(h)), T
    the number of different bytes seen after h, h' the context h without its first byte; p_0 = 1/256.
    """
    read, _ = _grams(train, order)
    wanted, owner = _grams(rows, order)
    likely = np.full(len(wanted), 1 / 256)
    for k in range(order):
        counts = _count(read[:, order - 1 - k :])
        pair, context = _key(wanted[:, order - 1 - k :]), _key(wanted[:, order - 1 - k : -1])
        total = _look_up(counts.contexts, counts.context_counts, context)
        kinds = _look_up(counts.contexts, counts.followers, context)
        seen = _look_up(counts.pairs, counts.pair_counts, pair)
        mixed = (seen + kinds * likely) / np.maximum(total + kinds, 1)
        likely = np.where(total > 0, mixed, likely)
    return np.bincount(owner, -np.log(likely), minlength=len(rows))


def _grams(texts: Sequence[str], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Every byte with the order - 1 symbols before it, int64 (bytes, order), and the number of its text."""
    parts, owners = [], []
    for number, text in enumerate(texts):
        found = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        padded = np.concatenate([np.full(order - 1, 256, np.int64), found])
        parts.append(np.lib.stride_tricks.sliding_window_view(padded, order))
        owners.append(np.full(len(found), number))
    return np.concatenate(parts), np.concatenate(owners)


def _key(grams: np.ndarray) -> np.ndarray:
    """Rows of symbols as one number each."""
    key = np.zeros(len(grams), np.int64)
    for column in grams.T:
        key = key * _SYMBOLS + column
    return key


def _count(grams: np.ndarray) -> _Counts:
    pairs, pair_counts = np.unique(_key(grams), return_counts=True)
    contexts, start, followers = np.unique(pairs // _SYMBOLS, return_index=True, return_counts=True)
    return _Counts(pairs, pair_counts, contexts, np.add.reduceat(pair_counts, start), followers)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key; 0 for one that is not there."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
