"""Which tables are for a language model: plain texts, chats, prompts with their completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunemerge.propose.columns import plain, text_column, values_of
from tunemerge.propose.tables import Source
from tunemerge.tasks.task import TASKS

PLAIN, ASKED = "language-modelling", "instructions"
_PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"))


@dataclass(frozen=True)
class Language:
    """The kind of task that a table is for, its keys in the study file, what is read and learned, why, and how many
    rows it makes."""

    kind: str
    keys: dict[str, str]
    read: str
    learned: str
    why: str
    rows: int


def language_of(source: Source, said: str | None, text: str | None = None) -> Language | None:
    """None where the table is for something else, or the person said so. Nothing is asked: such tables are plain. Of a
    table that was said to be plain text, `text` or its longest texts are read."""
    if said not in (None, PLAIN, ASKED):
        return None
    names = {plain(str(column)): str(column) for column in source.table.columns}
    if said != PLAIN:
        for column, values in source.table.items():
            if len(values) and _is_chat(values.iloc[0]):
                name, rows = str(column), len(values)
                return Language(ASKED, {"messages": name}, name, "what the assistant says", "a chat a row", rows)
        for asked, answer in _PAIRS:
            if asked in names and answer in names:
                keys = {"prompt": names[asked], "completion": names[answer]}
                keys |= {"input": names["input"]} if "input" in names and asked == "instruction" else {}
                return Language(ASKED, keys, keys["prompt"], keys["completion"], "called so", len(source.table))
    kind = TASKS[PLAIN]
    if ".txt" in next(iter(source.files.values())).suffixes:
        rows = len(kind.unfold(source.table, kind.Options()))
        return Language(PLAIN, {}, "text", "the next token", "a text file", rows)
    column = text or text_column({str(n): values_of(source.table[n]) for n in source.table.columns}).column
    if said != PLAIN or column is None or column not in names.values():
        return None
    rows = len(kind.unfold(source.table, kind.Options(text=column)))
    return Language(PLAIN, {"text": column}, column, "the next token", "as you said", rows)


def _is_chat(cell: Any) -> bool:
    several = isinstance(cell, list | tuple | np.ndarray) and len(cell) > 0
    return several and isinstance(cell[0], Mapping) and bool({"role", "from"} & set(cell[0]))
