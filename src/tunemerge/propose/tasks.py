"""From tables to tasks: their columns, kind and labels, with why, and what must be asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tunemerge.findings import Finding, error
from tunemerge.propose import columns as c
from tunemerge.propose.labels import sorted_labels
from tunemerge.propose.language import Language, language_of
from tunemerge.propose.pictures import Pictures, picture_kind, pictures_of
from tunemerge.propose.questions import Answers, Question
from tunemerge.propose.tables import Source, task_name
from tunemerge.registry import listed, nearest
from tunemerge.tasks.table_columns import TableOptions, complete
from tunemerge.tasks.task import TASKS

CLASSES = "text-classification"
TARGET_KEY = {CLASSES: "label", "text-regression": "value"}
TABLES = {CLASSES: "table-classification", "text-regression": "table-regression"}
"""The kinds for rows without a text, by those for texts."""
CLASS_KINDS = (CLASSES, TABLES[CLASSES])


@dataclass(frozen=True)
class Draft:
    """A task as it will stand in the file. `raw`: its label values, () for numbers. `why`: comments, by key."""

    name: str
    files: dict[str, Path]
    given: bool
    where: dict[str, str]
    kind: str
    text: str
    target: str
    unit: str | None
    weight: str | None
    rows: int
    raw: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    keys: dict[str, Any] | None = None  # of the kind, where they are not a text and what is predicted
    why: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What is predicted, sorted: label names, or nothing for numbers."""
        return tuple(sorted({self.labels.get(value, value) for value in self.raw}))


@dataclass(frozen=True)
class Look:
    """What was found in all tables: tasks, the date column (None: no split by time), and what is open or wrong."""

    tasks: tuple[Draft, ...]
    date: str | None
    notes: tuple[str, ...]
    questions: tuple[Question, ...]
    findings: tuple[Finding, ...]


def look(sources: Sequence[Source], answers: Answers) -> Look:
    """Infer what every table's columns are. Where something must be asked, what is likely stands for the answer."""
    pictures = {s.name: seen for s in sources if (seen := pictures_of(s, answers.kind, answers.label))}
    language = {s.name: shape for s in sources if s.name not in pictures
                and (shape := language_of(s, answers.kind, answers.text))}  # fmt: skip
    texts = [_draft(source, language[source.name]) for source in sources if source.name in language]
    kind = picture_kind(answers.kind, answers.base) if pictures else ("", "")
    texts += [_of_images(source, pictures[source.name], *kind) for source in sources if source.name in pictures]
    sources = [source for source in sources if source.name not in {**language, **pictures}]
    ask = _Asking(sources, answers)
    for source in sources:
        for missing in [s for s in ("text", "label", "unit", "weight", "date", "task_by") if _said(answers, s)]:
            ask.known(source, missing)
    plain = {s.name for s in sources if _is_table(ask.profile[s.name], answers)}
    text = ask.column(
        "text", "which column is the text that a model reads?", lambda s, p, t: c.text_column(p), without=plain
    )
    label = ask.column("label", "which column is to be predicted?", lambda s, p, t: c.target_column(p, _taken(s, text)))
    one = len(sources) == 1 and not sources[0].given
    by = ask.column(
        "task_by",
        "is every value of one of these columns a task of its own?",
        lambda s, p, t: c.site_column(t, p, _taken(s, text, label)) if one else c.Guess(None, ""),
    )
    unit = ask.column(
        "unit",
        "which column says what is one piece of evidence (a patient, a document)?",
        lambda s, p, t: c.unit_column(t, p, _taken(s, text, label, by), by[s.name]),
    )
    weight = ask.column(
        "weight",
        "which column weighs rows?",
        lambda s, p, t: c.Guess(c.named_column(p, "weight", _taken(s, text, label, unit)), "called so"),
    )
    dates = ask.column(
        "date", "split by time, by which column?", lambda s, p, t: _date(p, _taken(s, text, label, unit))
    )
    found = sorted({d for d in dates.values() if d})
    date = (
        found[0]
        if len(found) == 1 and all(dates.values()) and not texts and not any(s.given for s in sources)
        else None
    )
    notes, drafts = [], list(texts)
    for source in sources:
        if source.unused:
            notes.append(f"{source.name}: not used: {', '.join(source.unused)} (a study takes given splits where there "
                         "are train, validation and test)")  # fmt: skip
        split = c.named_column(ask.profile[source.name], "split", _taken(source, text, label, by))
        if split and not source.given:
            notes.append(f"column {split!r} is not used: the rows are split anew, as `splits` says")
        drafts += ask.drafts(source, text, label, by, unit, weight)
    twice = [n for n, k in Counter(d.name for d in drafts).items() if k > 1]
    if twice:
        ask.findings.append(error("task-twice", f"two tasks would be called {listed(twice)}", "tasks"))
    return Look(tuple(drafts), date, tuple(dict.fromkeys(notes)), tuple(ask.questions.values()), tuple(ask.findings))


def _draft(source: Source, found: Language) -> Draft:
    """A task for a language model."""
    why = {"kind": f"inferred: {found.why}"}
    return Draft(
        source.name, source.files, source.given, {}, found.kind, found.read, found.learned, None, None, found.rows, (),
        keys=found.keys, why=why,
    )  # fmt: skip


def _of_images(source: Source, found: Pictures, kind: str, why_kind: str) -> Draft:
    """A task for a model of images, or of images and captions."""
    why = {"kind": why_kind or f"inferred: {found.why}", "labels": ""}
    return Draft(
        source.name, source.files, source.given, {}, kind, found.image, found.label, None, None, len(source.table),
        found.raw, keys=found.keys, why=why,
    )  # fmt: skip


def _said(answers: Answers, key: str) -> str | None:
    value = getattr(answers, key)
    return None if value in (None, c.NONE) else value


def _date(profile: dict[str, c.Values], taken: set[str]) -> c.Guess:
    found = c.named_column(profile, "date", taken)
    return c.Guess(None, "", found is None, (c.NONE, found) if found else ())


def _taken(source: Source, *roles: dict[str, str | None]) -> set[str]:
    """Columns that have a role already."""
    return {column for role in roles if (column := role[source.name])}


class _Asking:
    """Questions and findings, as they come up."""

    def __init__(self, sources: Sequence[Source], answers: Answers) -> None:
        self.sources, self.answers = sources, answers
        self.profile = {s.name: {str(n): c.values_of(s.table[n]) for n in _once(s.table)} for s in sources}
        self.questions: dict[str, Question] = {}
        self.findings: list[Finding] = []
        self.why: dict[tuple[str, str], str] = {}

    def known(self, source: Source, key: str) -> None:
        """A column that was named must be in the table; a unit, weight or date in all of them or none."""
        column, there = str(_said(self.answers, key)), list(self.profile[source.name])
        if column not in there and not (key in ("text", "label") and any(column in p for p in self.profile.values())):
            text = f"no column {column!r}{nearest(column, there)}; {source.name} has {listed(there, 20)}"
            self.findings.append(error("no-such-column", text, f"--{key.replace('_', '-')}"))

    def column(
        self,
        key: str,
        text: str,
        guess: Callable[[Source, dict[str, c.Values], pd.DataFrame], c.Guess],
        without: Collection[str] = (),
    ) -> dict[str, str | None]:
        """The column of every table, as it was said or guessed; asked once where a guess is unsure. The tables in
        `without` have none."""
        out: dict[str, str | None] = {}
        said = getattr(self.answers, key)
        for source in self.sources:
            profile = self.profile[source.name]
            if source.name in without:
                out[source.name], self.why[source.name, key] = None, "no column of texts"
                continue
            if said == c.NONE or said in profile:
                out[source.name] = None if said == c.NONE else said
                self.why[source.name, key] = "as you said"
                continue
            found = guess(source, profile, source.table)
            out[source.name] = found.column
            self.why[source.name, key] = f"inferred: {found.why}"
            if (not found.sure and said is None) or (key in ("text", "label") and found.column is None):
                choices = found.choices or tuple(profile)
                optional = key == "date"
                default = c.NONE if optional else found.column
                hints = {n: c.describe(profile[n]) for n in choices if n in profile}
                where = f"{source.name}: " if len(self.sources) > 1 else ""
                self.questions.setdefault(key, Question(key, where + text, default, choices, not optional, hints))
        return out

    def drafts(self, source: Source, *roles: dict[str, str | None]) -> list[Draft]:
        text, label, by, unit, weight = (role[source.name] for role in roles)
        if label is None or (text is None and not _is_table(self.profile[source.name], self.answers)):
            return []
        table = source.table
        why = {key: self.why[source.name, key] for key in ("text", "label", "unit", "weight", "task_by")}
        if by is None:
            parts: dict[str, tuple[pd.DataFrame, dict[str, str]]] = {source.name: (table, {})}
        else:
            parts = {task_name(v): (table[table[by] == v], {by: str(v)}) for v in table[by].dropna().unique()}
        out = []
        for name, (rows, where) in parts.items():
            kind, because = self._kind(name, rows[label], text is None)
            values = rows[label].dropna().astype(str).unique()
            raw = sorted_labels([str(v) for v in values]) if kind in CLASS_KINDS else ()
            own = {**why, "kind": because, "label": f"{why['label']}; {len(values):,} distinct values"}
            keys = None
            if text is None:
                keys = _table_keys(table, label, {label, *(x for x in (by, unit, weight) if x)})
            out.append(
                Draft(
                    name, source.files, source.given, where, kind, text or "columns", label, unit, weight, len(rows),
                    raw, keys=keys, why=own,
                )
            )  # fmt: skip
        return out

    def _kind(self, task: str, target: pd.Series, table: bool) -> tuple[str, str]:
        said = self.answers.kind
        if said is not None:
            if said not in TARGET_KEY and said not in TABLES.values():
                known = [*TARGET_KEY, *TABLES.values()]
                hint = nearest(said, known) if said not in TASKS else f"; init knows {listed(known)}"
                one = error("unknown-kind", f"no kind of task {said!r} that can be proposed{hint}", "--kind")
                self.findings += [one] if one not in self.findings else []
            return said, "as you said"
        kind, why, sure = c.kind_of(c.values_of(target))
        kind = TABLES[kind] if table else kind
        if not sure and "kind" not in self.questions:
            text = f"are the values of {target.name!r} classes or numbers? ({why})"
            choices = tuple(TABLES.values() if table else TARGET_KEY)
            self.questions["kind"] = Question("kind", f"{task}: {text}", kind, choices)
        return kind, f"inferred: {why}"


def _is_table(profile: dict[str, c.Values], answers: Answers) -> bool:
    """Whether rows are numbers and categories: said, or several columns and none of texts."""
    if answers.kind is not None or answers.text is not None:
        return answers.kind in TABLES.values()
    return len(profile) > 2 and c.text_column(profile).column not in c.texts_of(profile)


def _table_keys(table: pd.DataFrame, label: str, taken: Collection[str]) -> dict[str, Any]:
    """Keys of a table's task: columns by what they hold; those that number rows are left out."""
    ids = [n for n in _once(table) if n not in taken and c.is_identifier(n)]
    options = TableOptions.model_validate({"ignore": ids})
    (found,) = complete([options], [table], [{*taken}])
    named = {"numeric": found.numeric, "categorical": list(found.categorical), "ignore": ids}
    return {name: columns for name, columns in named.items() if columns}


def _once(table: pd.DataFrame) -> list[str]:
    """Columns whose name no other has."""
    return [str(n) for n in table.columns if list(table.columns).count(n) == 1]


def with_labels(task: Draft, labels: dict[str, str], why: str) -> Draft:
    return replace(task, labels=labels, why={**task.why, "labels": why})
