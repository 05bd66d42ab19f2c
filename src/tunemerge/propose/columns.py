"""Which column of a table is what, by its name and its values. Pure functions over a table."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

NONE = "none"
"""The answer that there is no such column."""

_TEXT = {
    "text",
    "sentence",
    "review",
    "tweet",
    "question",
    "query",
    "utterance",
    "comment",
    "body",
    "message",
    "content",
}
_TEXT |= {"document", "title", "abstract", "post", "note", "snippet", "reviewtext", "texts", "sentences"}
_TARGET = ["label", "labels", "target", "class", "y", "intent", "category", "sentiment", "polarity", "stars", "rating"]
_TARGET += ["score", "valence", "value", "topic", "grade", "coarselabel"]
_SITE = {"site", "domain", "source", "dataset", "language", "lang", "hospital", "center", "centre", "country", "region"}
_SITE |= {"clinic", "platform", "market", "institution", "corpus", "website"}
_UNIT = {"patient", "subject", "participant", "person", "user", "customer", "author", "document", "doc", "session"}
_UNIT |= {"reviewer", "speaker", "conversation", "thread"}
_WEIGHT = {"weight", "weights", "sampleweight"}
_DATE = {"date", "day", "time", "timestamp", "datetime", "createdat", "year", "month", "week"}
_SPLIT = {"split", "fold", "partition", "subset"}
_SAMPLE = 2000
FEW = 20
"""So many distinct values are classes, even where they are numbers."""


@dataclass(frozen=True)
class Guess:
    """A column for a role, None where there is none. `sure`: nobody need be asked. `choices`: what else it could be."""

    column: str | None
    why: str
    sure: bool = True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Values:
    """What is looked at of a column. `length`: mean characters; `numeric`: every value that is there is a number."""

    rows: int
    distinct: int
    length: float
    words: float
    numeric: bool
    whole: bool


def values_of(column: pd.Series) -> Values:
    there = column.dropna()
    sample = there.head(_SAMPLE).astype(str)
    numbers = pd.to_numeric(there, errors="coerce") if len(there) else pd.Series(dtype=float)
    numeric = bool(len(there)) and bool(numbers.notna().all())
    whole = numeric and bool((numbers % 1 == 0).all())
    words = float(sample.str.count(r"\S+").mean()) if len(sample) else 0.0
    length = float(sample.str.len().mean()) if len(sample) else 0.0
    return Values(len(there), int(there.astype(str).nunique()), length, words, numeric, whole)


def plain(name: str) -> str:
    """A name without case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def describe(values: Values) -> str:
    """A column in a few words that quote none of its values."""
    if values.distinct == values.rows and values.numeric:
        return "a number a row"
    if values.numeric and values.distinct > FEW:
        return f"{values.distinct:,} distinct numbers"
    if values.length >= _LONG and values.distinct > FEW:
        return f"texts of about {values.length:.0f} characters"
    return f"{values.distinct:,} distinct values"


_LONG = 20


def texts_of(profile: dict[str, Values]) -> list[str]:
    """The columns of texts."""
    return [c for c, v in profile.items() if _is_text(v)]


def text_column(profile: dict[str, Values]) -> Guess:
    """The column that a model reads."""
    texts = texts_of(profile)
    named = [c for c in texts if plain(c) in _TEXT]
    if len(texts) == 1:
        return Guess(texts[0], "the only column of texts")
    first = next((c for c in named if plain(c) in ("text", "texts")), named[0] if len(named) == 1 else None)
    if first is not None:
        return Guess(first, "called as texts are")
    longest = max(texts, key=lambda c: profile[c].length, default=None)
    return Guess(longest, "the longest texts", False, tuple(texts or profile))


def _is_text(v: Values) -> bool:
    many = v.distinct > 0.2 * v.rows and v.distinct > 1
    return not v.numeric and many and (v.words >= 2.5 or v.length >= _LONG)


def target_column(profile: dict[str, Values], taken: Collection[str]) -> Guess:
    """The column that is to be predicted: called as such, else the only one that can be."""
    can = [c for c, v in profile.items() if c not in taken and _is_target(c, v)]
    named = sorted((c for c in can if plain(c) in _TARGET), key=lambda c: _TARGET.index(plain(c)))
    if len(named) == 1:
        return Guess(named[0], "called as answers are")
    if len(can) == 1:
        return Guess(can[0], "the only column that can be one")
    best = named[0] if named else min(can, key=lambda c: profile[c].distinct, default=None)
    return Guess(best, "one of several that can be one", False, tuple(can))


def _is_target(name: str, v: Values) -> bool:
    other = plain(name) in _SPLIT | _WEIGHT | _DATE | _UNIT | (_SITE - {"source"}) or is_identifier(name)
    classes = 2 <= v.distinct <= max(FEW, v.rows // 5)
    return (
        not other and not (_is_text(v) and plain(name) not in _TARGET) and (classes or (v.numeric and v.distinct > 1))
    )


def is_identifier(name: str) -> bool:
    """Called as numbers of rows and of things are: id, review_id, patientId, a column without a name."""
    return plain(name) in ("", "id", "index", "row", "unnamed0") or bool(
        re.search(r"[_\s-](?:id|ID|Id)$|[a-z]I[dD]$", name)
    )


def site_column(table: pd.DataFrame, profile: dict[str, Values], taken: Collection[str]) -> Guess:
    """A column whose values may be tasks of their own: a site, a domain, a language."""
    named = [c for c in profile if plain(c) in _SITE and c not in taken and 2 <= profile[c].distinct <= 40]
    named = [c for c in named if table[c].value_counts().min() >= 30]
    if not named:
        return Guess(None, "no column is called as sites are")
    return Guess(named[0], f"{profile[named[0]].distinct} distinct values", False, (*named, NONE))


def unit_column(table: pd.DataFrame, profile: dict[str, Values], taken: Collection[str], by: str | None) -> Guess:
    """A column of what is one piece of evidence: several rows share a value."""
    for column in profile:
        known = plain(column.removesuffix("_id").removesuffix("Id").removesuffix("_ID")) in _UNIT
        if column in taken or profile[column].distinct < 10 or not (known or is_identifier(column)):
            continue
        missing = table[column].isna().any()
        units = len(table[[column, *([by] if by else [])]].drop_duplicates())
        if missing or units > len(table) / 1.2:
            continue
        why = f"{units:,} units of {len(table) / units:.1f} rows"
        return Guess(column, why, known, (column, NONE))
    return Guess(None, "no column says which rows belong together")


def named_column(profile: dict[str, Values], role: str, taken: Collection[str]) -> str | None:
    """The column called as a `weight`, a `date` or a `split` is."""
    names = {"weight": _WEIGHT, "date": _DATE, "split": _SPLIT}[role]
    fits = (c for c, v in profile.items() if c not in taken and plain(c) in names)
    return next((c for c in fits if role != "weight" or profile[c].numeric), None)


def kind_of(values: Values) -> tuple[str, str, bool]:
    """The kind of task that a target's values make, why, and whether that is sure."""
    few = f"{values.distinct} distinct values"
    if values.distinct <= FEW or not values.numeric:
        return "text-classification", few, True
    if not values.whole:
        return "text-regression", f"{values.distinct:,} distinct numbers", True
    return "text-regression", f"{values.distinct:,} distinct whole numbers, which may be classes", False
