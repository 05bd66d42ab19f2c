"""Which row of which model an output row is, for every model: mergekit's rule, for all tokens at once.

A model that has the token gives its own row. One that lacks it gets the row of the only model that has it; else the
base's; else the mean of the rows of those that have it; a token that nobody has is zero. A rule for a single token
goes before all that where the model lacks the token, and with `force` everywhere. Rows behind the last token, and
numbers that no token has, get the mean of all the token rows that the model ends up with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

ZERO, MEAN, PADDING = -1, -2, -3
"""Instead of a donor: zeros, the mean of the rows of the models that have the token, the mean of all token rows."""


@dataclass(frozen=True)
class Overrides:
    """Rules for single tokens: output `rows` (k,) come from row `sources` (k,) of the model numbered `donors` (k,)
    (or ZERO) where a model lacks them or `force` (k,) is set."""

    rows: Ints
    donors: Ints
    sources: Ints
    force: Flags


def row_map(tokens: Iterable[str], numbers: Ints, rows: int, ids: Mapping[str, int], limit: int | None) -> Ints:
    """(rows,): the number in `ids` of the token with that number in the output; -1 where there is none below `limit`.

    `tokens` and `numbers` (n,) are the output's tokens; numbers from `rows` on are left out.
    """
    found = np.fromiter(map(ids.get, tokens, repeat(-1)), np.int64, numbers.size)
    if limit is not None:
        found[found >= limit] = -1
    out = np.full(rows, -1, np.int64)
    inside = numbers < rows
    out[numbers[inside]] = found[inside]
    return out


def choose(maps: Ints, base: int | None, is_token: Flags, overrides: Overrides) -> tuple[NDArray[np.int16], Ints]:
    """(donor (n, rows), row (n, rows)): output row i of model m is row `row[m, i]` of model `donor[m, i]`.

    `maps` (n, rows) is each model's own row or -1; `base` the number of the base among them. A donor can also be
    ZERO, MEAN or PADDING, with row -1.
    """
    models, rows = maps.shape
    have = maps >= 0
    owners = have.sum(0)
    fallback = np.full(rows, MEAN, np.int16)
    if base is not None:
        fallback[have[base]] = base
    sole = owners == 1
    fallback[sole] = have[:, sole].argmax(0)
    fallback[owners == 0] = ZERO
    fallback[~is_token] = PADDING
    source = np.where(fallback >= 0, maps[np.maximum(fallback, 0), np.arange(rows)], -1)
    fallback[overrides.rows], source[overrides.rows] = overrides.donors, overrides.sources
    own = have.copy()
    own[:, overrides.rows[overrides.force]] = False
    donor = np.where(own, np.arange(models, dtype=np.int16)[:, None], fallback)
    return donor, np.where(own, maps, source)
