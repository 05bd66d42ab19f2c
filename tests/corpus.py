"""Sentences whose label follows from one telling word: what the tests tune tiny models on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tunemerge.data.load import Columns, rows_of
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS

WORDS = (
    *(
        "the",
        "a",
        "film",
        "phone",
        "food",
        "was",
        "is",
        "not",
        "very",
        "we",
        "i",
        "it",
        "and",
        "but",
        "so",
        "for",
        "all",
    ),
    *("good", "bad", "great", "awful", "fine", "poor", "lovely", "terrible", "service", "plot", "screen", "sound"),
    *("place", "time", "again", "never", "really", "quite", "this", "that", "with", "of"),
)
LABELS = ["negative", "positive"]
SPEC = Spec("text-classification", tuple(LABELS))
POSITIVE = ("good", "great", "lovely", "fine")
NEGATIVE = ("bad", "awful", "terrible", "poor")
RowsFactory = Callable[..., Path]


def sentences(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """n sentences of 2 to 21 words with one telling word each, and their labels."""
    import numpy as np

    generator = np.random.default_rng(seed)
    neutral = [word for word in WORDS if word not in POSITIVE + NEGATIVE and word != "not"]
    texts, labels = [], []
    for _ in range(n):
        label = int(generator.integers(2))
        words = list(generator.choice(neutral, int(generator.integers(1, 21))))
        words.insert(int(generator.integers(len(words) + 1)), str(generator.choice(POSITIVE if label else NEGATIVE)))
        texts.append(" ".join(words))
        labels.append(LABELS[label])
    return texts, labels


def text_rows(table: Any, remedy: str = "", labels: dict[str, str] | None = None, **more: Any) -> Any:
    """Rows and findings, as a text classification reads a table."""
    kind = TASKS["text-classification"]
    options = kind.Options(labels=labels or {})
    source = kind.source(options)
    columns = Columns(source.columns, source.required, **more)
    return rows_of(table, columns, partial(kind.convert, options=options, where="t"), kind.target, "t", remedy)
