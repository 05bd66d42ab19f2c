"""What the person runs today, as predictions from a file: an arm that the study did not make, and of unknown cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tunemerge.data.load import read_table, table_path
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, note, warning
from tunemerge.registry import listed, nearest
from tunemerge.stats.metrics import METRICS
from tunemerge.stats.predictions import Predictions
from tunemerge.study.complete import Cache
from tunemerge.study.config import StudyConfig
from tunemerge.study.config_given import IncumbentConfig
from tunemerge.study.config_task import TaskConfig
from tunemerge.study.rows import StudyRows, TaskRows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, is_classes

NAME = "incumbent"
_KEY = "incumbent.predictions"
# What a label that is answered without a probability stands above the others, in logits.
_SURE = 30.0
_ROUNDING = 0.01


@dataclass(frozen=True)
class Incumbent:
    """Predictions by task, one a seed: the same answers, on each seed's test rows. Without `probabilities` they are
    labels alone, and metrics that need more are not available."""

    predictions: Mapping[str, list[Predictions]]
    probabilities: bool


def read_incumbent(config: StudyConfig, rows: StudyRows, folder: Path) -> tuple[Incumbent | None, list[Finding]]:
    """The incumbent's predictions laid beside the test rows by their ids, and what is wrong with them."""
    if config.incumbent is None:
        return None, []
    found: list[Finding] = []
    predictions: dict[str, list[Predictions]] = {}
    probable: dict[str, bool] = {}
    for task in rows.tasks.values():
        if task.spec is None or task.role not in ("task", "target"):
            continue
        if any(config.scored not in parts for parts in task.parts.values()):
            continue
        tested = [rows.lines[task.name, run, config.scored] for run in task.parts]
        answers, problems = _answers(config.incumbent, task, task.spec, tested, folder, several=_several(rows))
        found += problems
        if answers is not None:
            tables = [rows.tables[parts[config.scored].digest] for parts in task.parts.values()]
            predictions[task.name] = [_on(answers, task.spec, *on) for on in zip(tables, tested, strict=True)]
            probable[task.name] = answers.probabilities
    probabilities = all(probable.values())
    if predictions and config.metric in METRICS and METRICS[config.metric].probabilities and not probabilities:
        text = f"{config.metric} needs probabilities, and there are only labels"
        fix = "give a column a label with its probability, or take metric: accuracy"
        found.append(error("incumbent-labels-only", text, _KEY, fix))
    if any(f.severity == "error" for f in found) or not predictions:
        return None, found
    return Incumbent(predictions, probabilities), found


@dataclass(frozen=True)
class _Answers:
    """What it said, by the number of the data row: log probabilities, or values."""

    outputs: pd.DataFrame
    probabilities: bool


def _several(rows: StudyRows) -> bool:
    return sum(t.role in ("task", "target") for t in rows.tasks.values()) > 1


def _answers(
    config: IncumbentConfig,
    task: TaskRows,
    spec: Spec,
    tested: list[np.ndarray],
    folder: Path,
    several: bool,
) -> tuple[_Answers | None, list[Finding]]:
    """The answers to one task's test rows; None where they can't be had."""
    given = config.predictions
    if not isinstance(given, str) and task.name not in given:
        return None, [error("incumbent-missing", f"no predictions for {task.name!r}", _KEY, f"add `{task.name}:`")]
    file = given if isinstance(given, str) else given[task.name]
    where = f"{_KEY} ({file})"
    try:
        table = read_table(table_path(folder, file))
    except UsageError as e:
        return None, [error("bad-data", str(e), _KEY)]
    if isinstance(given, str) and several:
        if config.task not in table.columns:
            return None, [_no_column(table, config.task, "task", where, "`incumbent.task`, or a file for each task")]
        table = table[table[config.task].astype(str) == task.name]
    return _aligned(config, task, spec, tested, folder, table, where)


def _aligned(
    config: IncumbentConfig,
    task: TaskRows,
    spec: Spec,
    tested: list[np.ndarray],
    folder: Path,
    table: pd.DataFrame,
    where: str,
) -> tuple[_Answers | None, list[Finding]]:
    lines = np.unique(np.concatenate(tested))
    column = config.id or task.config.unit
    if column is None:
        column, ids, every = "row", {int(n): str(n + 1) for n in lines}, None
    else:
        tables = Cache().tables(task.config, folder)[0]
        data = tables["data" if task.config.data else "test"]
        if column not in data.columns:
            return None, [_no_column(data, column, "id", f"tasks.{task.name}", "`incumbent.id`, a column of both")]
        every = set(data[column].astype(str))
        ids = {int(n): str(v) for n, v in zip(lines, data.loc[lines, column], strict=True)}
    if column not in table.columns:
        return None, [
            _no_column(table, column, "id", where, "`incumbent.id`: a column that data and predictions share")
        ]
    found = _check_ids(task, column, ids, table[column].astype(str), every, where)
    if any(f.severity == "error" for f in found):
        return None, found
    table = table.assign(**{column: table[column].astype(str)}).set_index(column).loc[list(ids.values())]
    kind = TASKS[spec.kind]
    if is_classes(spec.kind):
        logits, problems = _logits(config, task, spec.labels, table, where)
    elif kind.prediction == "value":
        logits, problems = _values(config, task, table, where)
    else:
        text = f"what runs today can be compared on classes and on values, not on a {spec.kind} task"
        logits, problems = None, [error("incumbent-kind", text, where, "leave `incumbent` out")]
    probabilities = not is_classes(spec.kind) or all(label in table.columns for label in spec.labels)
    answers = None if logits is None else _Answers(pd.DataFrame(logits, index=list(ids)), probabilities)
    return answers, found + problems


def _check_ids(
    task: TaskRows, column: str, ids: Mapping[int, str], given: pd.Series, every: set[str] | None, where: str
) -> list[Finding]:
    """Test rows without a prediction, with two, or whose ids are not ids; predictions of rows that are not tested."""
    wanted, private = set(ids.values()), task.config.private
    found = []
    if len(wanted) < len(ids):
        text = f"{len(ids) - len(wanted)} test rows of {task.name} share their {column!r} with another one"
        found.append(error("incumbent-id", text, where, "name a column of one value a row: `incumbent.id`"))
    if missing := [i for i in ids.values() if i not in set(given)]:
        text = f"{len(missing)} of {len(ids)} test rows of {task.name} have no prediction{_first(missing, private)}"
        found.append(error("incumbent-missing", text, where, "predict every test row"))
    twice = given[given.duplicated()].unique()
    if len(twice):
        text = f"{len(twice)} values of {column!r} stand twice or more among the predictions of {task.name}"
        found.append(error("incumbent-twice", text + _first(twice, private), where, "leave one prediction a row"))
    others = [i for i in dict.fromkeys(given) if i not in wanted]
    strange = [i for i in others if every is not None and i not in every]
    if strange:
        text = f"{len(strange)} predictions are of no row of {task.name}{_first(strange, private)}"
        found.append(warning("incumbent-extra", text, where, "is this the file for these data?"))
    if len(others) > len(strange):
        text = f"{len(others) - len(strange)} predictions are of rows of {task.name} that are no test rows: not used"
        found.append(note("incumbent-extra", text, where))
    return found


def _logits(
    config: IncumbentConfig, task: TaskRows, labels: tuple[str, ...], table: pd.DataFrame, where: str
) -> tuple[np.ndarray | None, list[Finding]]:
    """[rows, labels]: log probabilities, or where there are labels alone the answered one above all others."""
    if all(label in table.columns for label in labels):
        values = table[list(labels)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        bad = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= _ROUNDING))
        if bad.any():
            text = f"{int(bad.sum())} predictions of {task.name} are no probabilities: not 0 to 1 and 1 in sum"
            return None, [error("incumbent-probabilities", text, where, f"one number each for {listed(labels)}")]
        return np.log(np.maximum(values, 1e-12)), []
    if config.prediction not in table.columns:
        fix = f"`incumbent.prediction`, or a column with a probability for each of {listed(labels)}"
        return None, [_no_column(table, config.prediction, "prediction", where, fix)]
    named = [_label(str(v), task.config, labels) for v in table[config.prediction]]
    strange = list(dict.fromkeys(str(v) for v, n in zip(table[config.prediction], named, strict=True) if n is None))
    if strange:
        count = sum(n is None for n in named)
        text = f"{count} predictions of {task.name} are none of its labels{_first(strange, task.config.private)}"
        return None, [error("incumbent-label", text, where, f"its labels are {listed(labels)}")]
    return _SURE * np.eye(len(labels))[[labels.index(str(n)) for n in named]], []


def _values(
    config: IncumbentConfig, task: TaskRows, table: pd.DataFrame, where: str
) -> tuple[np.ndarray | None, list[Finding]]:
    """[rows, 1]: the predicted values, in the unit of the data."""
    if config.prediction not in table.columns:
        return None, [_no_column(table, config.prediction, "prediction", where, "`incumbent.prediction`")]
    values = pd.to_numeric(table[config.prediction], errors="coerce").to_numpy(np.float64)
    if count := int((~np.isfinite(values)).sum()):
        text = f"{count} predictions of {task.name} are no finite numbers"
        return None, [error("incumbent-value", text, where, "predict one number for every test row")]
    return values[:, None], []


def _label(value: str, task: TaskConfig, labels: tuple[str, ...]) -> str | None:
    """A label's name, from its name or its raw value in the data."""
    return value if value in labels else getattr(task.options, "labels", {}).get(value)


def _on(answers: _Answers, spec: Spec, table: pd.DataFrame, lines: np.ndarray) -> Predictions:
    """The answers to one seed's test rows, in their order; `lines` are their places in the data."""
    (column,) = TASKS[spec.kind].target
    classes = is_classes(spec.kind)
    target = np.array([spec.labels.index(v) for v in table[column]], np.int32) if classes else table[column].to_numpy()
    outputs = answers.outputs.loc[list(lines)].to_numpy()
    return Predictions(table["unit"].to_numpy(object), target, outputs, table["weight"].to_numpy(np.float64))


def _first(values: Iterable[object], private: bool) -> str:
    return "" if private else f": {listed((repr(v) for v in values), 5)}"


def _no_column(table: pd.DataFrame, column: str, role: str, where: str, fix: str) -> Finding:
    hint = nearest(column, [str(c) for c in table.columns])
    return error("no-such-column", f"no column {column!r} (for {role}){hint}", where, f"name it: {fix}")
