"""One table of a person as rows of a kind of task: for a tuning or an evaluation alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from tunemerge.checkpoint.locate import locate
from tunemerge.data.load import Columns, read_table, rows_of
from tunemerge.errors import UsageError
from tunemerge.findings import refuse_errors
from tunemerge.registry import nearest
from tunemerge.schema_errors import said
from tunemerge.tasks.task import TaskKind


def rows_of_file(path: str | Path, kind: TaskKind, options: BaseModel, unit: str | None = None) -> pd.DataFrame:
    """The rows of one file. Raises UsageError or FindingsError with all that is wrong."""
    return rows_of_table(read_table(Path(path)), kind, options, str(path), unit)


def rows_of_table(
    table: pd.DataFrame, kind: TaskKind, options: BaseModel, where: str, unit: str | None = None
) -> pd.DataFrame:
    """The rows of a table that was read; `where` is what findings call it."""
    source = kind.source(options)
    columns = Columns(source.columns, source.required, unit)
    remedy = "use --{role} NAME (in Python {role}='NAME')"
    rows, findings = rows_of(
        kind.unfold(table, options), columns, lambda t: kind.convert(t, options, where), kind.target, where, remedy
    )
    refuse_errors(findings)
    return rows


def completed_for(
    kind: TaskKind, options: BaseModel, data: str | Path, model: str | Path, unit: str | None = None
) -> tuple[Any, Path]:
    """The options with all filled in that the model says, or that is inferred from the file; and the model's folder."""
    table = read_table(Path(data))
    folder = locate(str(model))
    (completed,) = kind.complete([kind.complete_for(options, folder)], [table], [{unit} if unit else ()])
    return completed, folder


def settings_of(schemas: list[type[BaseModel]], values: Mapping[str, Any]) -> list[Any]:
    """An instance of each schema from settings by name. Raises UsageError with all unknown names and bad values."""
    known = [name for schema in schemas for name in schema.model_fields]
    wrong = [f"unknown setting {name!r}{nearest(name, known)}" for name in values if name not in known]
    made = []
    for schema in schemas:
        try:
            made.append(schema.model_validate({n: v for n, v in values.items() if n in schema.model_fields}))
        except ValidationError as problem:
            for e in problem.errors():
                place = f"{'.'.join(map(str, e['loc']))}: " if e["loc"] else ""
                wrong.append(place + said(e))
    if wrong:
        raise UsageError("\n".join(wrong))
    return made
