"""Which columns of a table are read, as numbers or as categories: said by a person, else inferred from all tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed

PREFIX = "x."
"""Of the columns of rows that are read, so that none is taken for `label`, `unit` or `weight`."""
# A column is read as numbers where so many of its values are some; what is none of the others is then an error.
_NUMERIC = 0.9
_MOSTLY_EMPTY = 0.8


def _as_lists(value: Any) -> Any:
    """`[cp, thal]` or `{cp: [1, 2, 3, 4]}`; values are compared as text."""
    if isinstance(value, list | tuple):
        return {str(column): [] for column in value}
    if isinstance(value, dict):
        return {str(c): [plain_category(v) for v in (v if isinstance(v, list) else [v])] for c, v in value.items()}
    return value


class TableOptions(BaseModel):
    """Columns with numbers and categories; empty cells are missing values. All tasks of a study read the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: list[str] = Field(
        [], description="columns that are read; absent: all that have no other role", examples=[["age", "sex"]]
    )
    ignore: list[str] = Field([], description="columns that are not read", examples=[["patient_id"]])
    numeric: list[str] = Field(
        [], description="columns read as numbers; absent: those in which 9 of 10 values are numbers",
        examples=[["age", "chol"]],
    )  # fmt: skip
    categorical: Annotated[dict[str, list[str]], BeforeValidator(_as_lists)] = Field(
        {}, description="columns read as categories, as a list, or each with its categories (private tasks need that); "
        "absent: all that are not numeric, with the categories of the training rows", examples=[{"cp": ["1", "2"]}],
    )  # fmt: skip
    rare: int = Field(
        3, ge=1, description="a category of fewer training rows is not told from unknown ones", examples=[10]
    )


def complete(
    options: Sequence[Any], tables: Sequence[pd.DataFrame], apart: Sequence[Collection[str]]
) -> list[TableOptions]:
    """Options of the tasks of a study with `columns`, `numeric` and `categorical` filled in from all of their tables.

    `apart`: each task's columns with another role. A column that only some tables have is asked of all.
    """
    asked = list(dict.fromkeys(c for o in options for c in (*o.columns, *o.numeric, *o.categorical)))
    if any(o.columns for o in options):
        names = asked
    else:
        there = (str(c) for table in tables for c in table.columns)
        other = {*(c for own in apart for c in own), *(c for o in options for c in o.ignore)}
        names = [c for c in dict.fromkeys([*there, *asked]) if c not in other]
    categorical = {c: list(dict.fromkeys(v for o in options for v in o.categorical.get(c, ()))) for c in names}
    said = {c for o in options for c in o.categorical}
    numeric = {c for o in options for c in o.numeric}
    numeric |= {c for c in names if c not in said and c not in numeric and _is_numeric(c, tables)}
    names.sort()  # whatever the order in a file: rows of one file fit a model made with another
    filled = {
        "columns": names,
        "numeric": [c for c in names if c in numeric],
        "categorical": {c: categorical[c] for c in names if c not in numeric},
    }
    return [o.model_copy(update=filled) for o in options]


def _is_numeric(column: str, tables: Sequence[pd.DataFrame]) -> bool:
    """By counts, a table each."""
    there = numbers = 0
    for table in tables:
        if list(table.columns).count(column) == 1:
            values = table[column].dropna()
            there += len(values)
            numbers += int(_numbers(values).notna().sum())
    return there == 0 or numbers >= _NUMERIC * there


def column_findings(options: Any, where: str) -> list[Finding]:
    """Columns that are given two readings, and a table of which nothing is left to read."""
    both = [c for c in options.numeric if c in options.categorical]
    found = []
    if both:
        text = f"{listed(map(repr, both))} both numeric and categorical"
        found.append(error("column-twice", text, where, "name each column once"))
    if not options.columns:
        text = "no column is left that a model could read"
        found.append(error("no-columns", text, where, "name some: `columns: [age, sex]`, or ignore fewer"))
    return found


def feature_columns(table: pd.DataFrame, options: Any, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Columns of rows, `x.NAME`: numbers (float64, NaN where missing) and categories (text or None); and cells that
    are no numbers where numbers are read."""
    found = column_findings(options, where)
    columns: dict[str, Any] = {}
    for name in options.numeric:
        raw = table[name]
        values = _numbers(raw)
        wrong = raw.index[raw.notna() & ~np.isfinite(values)]
        if len(wrong):
            shown = listed((f"{raw[i]!r} in data row {i + 1}" for i in wrong), 3)
            text = f"{len(wrong)} values of column {name!r} are no finite numbers: {shown}"
            fix = f"empty these cells or mend them; if they are categories: `categorical: [{name}]`"
            found.append(error("not-a-number", text, where, fix))
        columns[PREFIX + name] = values
    for name in options.categorical:
        cells = [None if pd.isna(v) else plain_category(v) for v in table[name]]
        columns[PREFIX + name] = pd.Series(cells, index=table.index, dtype=object)
    return pd.DataFrame(columns, index=table.index), found


def _numbers(raw: pd.Series) -> pd.Series:
    return pd.to_numeric(raw, errors="coerce").astype(np.float64)


def plain_category(value: Any) -> str:
    """A category as text: 3, 3.0 and "3" are one."""
    text = str(value).strip()
    head, dot, tail = text.partition(".")
    return head if dot and not tail.strip("0") and head.lstrip("-").isdigit() else text


def site_findings(options: Mapping[str, Any], parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
    """Columns that tell nothing at one site: constant, or mostly empty, in its training rows."""
    trained = [parts[s] for s in ("source", "adapt") if s in parts and len(parts[s])]
    if not trained:
        return []
    rows = pd.concat(trained)
    columns = [*options["numeric"], *options["categorical"]]
    empty = {c: float(rows[PREFIX + c].isna().mean()) for c in columns}
    hollow = [c for c in columns if empty[c] >= _MOSTLY_EMPTY]
    constant = [c for c in columns if c not in hollow and rows[PREFIX + c].nunique() <= 1]
    found = []
    if constant:
        text = f"the training rows have one value in {listed(map(repr, constant), 8)}"
        found.append(warning("column-constant", text, where, "a model tuned here alone learns nothing of it"))
    if hollow:
        shown = listed((f"{c!r} ({100 * empty[c]:.0f}%)" for c in hollow), 8)
        text = f"of the training rows at least 4 in 5 are empty in {shown}"
        fix = "`ignore` it, or expect models of other sites to read what this one can't teach"
        found.append(warning("column-mostly-empty", text, where, fix))
    return found


def unknown_categories(
    options: Mapping[str, Any], tasks: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]]
) -> list[Finding]:
    """Categories of scored rows that no training row has, or that are not among those declared. `tasks`: the splits of
    each, by run; of a column the split and run with the most such rows is told."""
    found = []
    for name, runs in tasks.items():
        told: dict[str, tuple[str, pd.Series]] = {}
        for column, declared in options["categorical"].items():
            for number, parts in enumerate(runs):
                known = set(declared) or _trained(column, [by[number] for by in tasks.values()])
                for split in ("validation", "test", "held_out"):
                    if split in parts and known:
                        values = parts[split][PREFIX + column].dropna()
                        strange = values[~values.isin(known)]
                        if len(strange) > len(told[column][1] if column in told else ()):
                            told[column] = split, strange
        if told:
            counts = listed((f"{c!r} ({len(s)} {split} rows)" for c, (split, s) in told.items()), 8)
            column, (_, strange) = max(told.items(), key=lambda one: len(one[1][1]))
            text = (
                f"categories that no training row has, or none declares, read as unknown: {counts}; first "
                f"{strange.iloc[0]!r} of {column!r} in data row {int(strange.index[0]) + 1}"
            )
            fix = "nothing to do where new categories are to be expected; else mend the spelling"
            found.append(warning("category-unknown", text, f"tasks.{name}", fix))
    return found


def _trained(column: str, tasks: Sequence[Mapping[str, pd.DataFrame]]) -> set[str]:
    frames = (parts[s] for parts in tasks for s in ("source", "adapt") if s in parts)
    return {str(v) for rows in frames for v in rows[PREFIX + column].dropna().unique()}
