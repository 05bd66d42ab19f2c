"""The contract that every kind of task keeps. For the project's own kinds and for plug-ins:

    case = Case(TASKS["mine"], {"text": "review"}, table, bad=[(broken, "not-a-number")], base=folder)

    @pytest.mark.parametrize("contract", CONTRACTS)
    def test_contract(contract, tmp_path):
        contract(case, tmp_path)

Every contract is a function of a Case and an empty folder; it raises AssertionError where the kind breaks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tunemerge.data.load import Columns, rows_of
from tunemerge.findings import Finding
from tunemerge.stats.metrics import METRICS, metrics_of
from tunemerge.stats.predictions import Predictions
from tunemerge.tasks import flops
from tunemerge.tasks.forward import predictions
from tunemerge.tasks.meter import metered
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import Loaded, TaskKind
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.model import tune_model

MAX_LENGTH = 64


@dataclass(frozen=True)
class Case:
    """A kind with something small to learn: `options` as in a study, a `table` that makes 40 `rows` or more (None: one
    a line), tables that are `bad` with the code of the finding that each must give, the folder of a `base` model, and
    `tuning` that learns."""

    kind: TaskKind
    options: Mapping[str, Any]
    table: pd.DataFrame
    base: Path
    bad: Sequence[tuple[pd.DataFrame, str]] = ()
    tuning: TuneConfig = field(default_factory=lambda: TuneConfig(learning_rate=3e-3, batch_size=8, dropout=0.0))
    rows: int | None = None

    @property
    def parsed(self) -> Any:
        return self.kind.complete([self.kind.Options.model_validate(dict(self.options))], [self.table], [()])[0]


def rows_and_findings(case: Case, table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """The rows of a table as a study reads them, and what is wrong with them."""
    source = case.kind.source(case.parsed)
    convert = partial(case.kind.convert, options=case.parsed, where="table")
    return rows_of(table, Columns(source.columns, source.required), convert, case.kind.target, "table")


def bad_rows_are_findings(case: Case, folder: Path) -> None:
    """Rows that can't be used are errors with a code and a place, never exceptions and never dropped."""
    rows, found = rows_and_findings(case, case.table)
    assert found == [], found
    assert len(rows) == (len(case.table) if case.rows is None else case.rows), len(rows)
    assert rows.index.isin(case.table.index).all() and rows.index.is_unique, "a row has the index of one of its lines"
    for table, code in case.bad:
        _, found = rows_and_findings(case, table)
        errors = [f.code for f in found if f.severity == "error"]
        assert code in errors, f"expected {code}, found {errors}"
        assert all(f.where for f in found)


def rows_come_back_from_parquet(case: Case, folder: Path) -> None:
    """What is read is what was written, in its order; target and inputs are apart."""
    spec, rows = _rows(case, folder)
    table, _ = rows_and_findings(case, case.table)
    assert len(rows) == len(table) == len(rows.target) == len(rows.features)
    assert set(case.kind.target) <= set(table.columns)
    assert json.loads(json.dumps(spec.as_dict())) == spec.as_dict()
    texts = case.kind.texts(table)
    assert texts is None or len(texts) == len(table)


def a_saved_model_predicts_identically(case: Case, folder: Path) -> None:
    """Loaded, saved and loaded again: the same bits; they fit a metric, and a model for something else is refused."""
    model, rows = _start(case, folder)
    first = _predict(case, model, rows)
    again = folder / "again"
    again.mkdir()
    case.kind.save(model, again)
    second = case.kind.load(again, model.spec)
    assert np.array_equal(first, _predict(case, second, rows)) and second.fitted == model.fitted
    found = Predictions(np.array(rows.unit, object), rows.target, first, rows.weight)
    known = metrics_of(case.kind.prediction)
    assert METRICS[case.kind.metric].name in known
    assert np.isfinite(known[case.kind.metric].fn(found.target, found.outputs, found.weight))


def the_same_seed_starts_the_same_head(case: Case, folder: Path) -> None:
    """`initialise` follows from base, spec, seed and what was fitted."""
    spec, rows = _rows(case, folder)
    fitted = _fitted(case, rows, spec)
    states = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        case.kind.initialise(case.base, folder / name, spec, 3, None, fitted)
        states.append(case.kind.load(folder / name, spec).net.state_dict())
    assert all(bool((states[0][n] == states[1][n]).all()) for n in states[0])


def padding_changes_no_prediction(case: Case, folder: Path) -> None:
    """A row predicts the same alone and beside longer ones: to a thousandth of how far rows differ."""
    model, rows = _start(case, folder)
    together = _predict(case, model, rows)
    spread = float(together.std(axis=0).max())
    for row in range(0, len(rows), max(1, len(rows) // 5)):
        alone = _predict(case, model, _some(rows, [row]))
        assert np.allclose(alone[0], together[row], rtol=1e-6, atol=1e-3 * spread), f"row {row}"


def the_loss_falls(case: Case, folder: Path) -> None:
    """Tuned for ten passes over the table, the training loss falls by a tenth or more."""
    model, _ = _start(case, folder)
    examples = 10 * len(pd.read_parquet(folder / "rows.parquet"))
    file = folder / "rows.parquet"
    tuned = tune_model(
        model.folder, folder / "tuned", [file], [file], task=model.spec, seed=1, examples=examples, config=case.tuning
    )
    losses = [point.train_loss for point in tuned.curve]
    assert losses[-1] < 0.9 * losses[0], losses
    assert tuned.cost.examples == examples and tuned.cost.train_flops > 2 * tuned.cost.forward_flops / len(tuned.curve)


def head_and_body_are_a_partition(case: Case, folder: Path) -> None:
    """Every parameter is in the head or in the body, none in both; without `head_names` there is no head."""
    model, _ = _start(case, folder)
    head = {id(p) for p in case.kind.head(model)}
    body = {id(p) for p in case.kind.body(model).parameters()}
    assert bool(head) == bool(case.kind.head_names) and body and not head & body
    assert head | body == {id(p) for p in model.net.parameters()}


def flops_follow_the_shapes(case: Case, folder: Path) -> None:
    """What is extrapolated from four shapes is what is counted for others, and passes are seen by the meter."""
    model, rows = _start(case, folder)
    encoded = case.kind.encode(model, rows, MAX_LENGTH)
    for training in (False, True):
        found = flops.flops({(3, 16): 1}, flops.measure(model, encoded, "full", training))
        assert found == flops.count(model, encoded, 3, 16, training) > 0
    with metered(model.net) as meter:
        predictions(model, encoded, "float32")
    assert meter.forward_examples == len(rows)


def what_is_fitted_adds_up(case: Case, folder: Path) -> None:
    """Fitted to the summaries of two halves, or to one of all rows: the same, as JSON. No summary has a row's size."""
    spec, rows = _rows(case, folder)
    if not case.kind.fits:
        assert case.kind.fit([case.kind.summarise(rows, spec)], spec) is None
        return
    half = len(rows) // 2
    parts = [_some(rows, range(half)), _some(rows, range(half, len(rows)))]
    one = case.kind.fit([case.kind.summarise(rows, spec)], spec)
    two = case.kind.fit([case.kind.summarise(part, spec) for part in parts], spec)
    assert json.loads(json.dumps(one)) == one
    assert _close(one, two), f"{one} and {two}"


def controls_predict_what_models_do(case: Case, folder: Path) -> None:
    """Every installed control gives finite outputs of the shape of a model's, the same ones for the same seed."""
    model, rows = _start(case, folder)
    shape = _predict(case, model, rows).shape
    for name, control in ((n, c) for n, c in case.kind.controls.items() if c.installed):
        one, two = (control.run(model.spec, rows, rows, 0) for _ in range(2))
        assert one.shape == shape and np.isfinite(one).all() and np.array_equal(one, two), name


CONTRACTS: tuple[Callable[[Case, Path], None], ...] = (
    bad_rows_are_findings,
    rows_come_back_from_parquet,
    a_saved_model_predicts_identically,
    the_same_seed_starts_the_same_head,
    padding_changes_no_prediction,
    the_loss_falls,
    head_and_body_are_a_partition,
    flops_follow_the_shapes,
    what_is_fitted_adds_up,
    controls_predict_what_models_do,
)


def _rows(case: Case, folder: Path) -> tuple[Spec, Rows]:
    table, _ = rows_and_findings(case, case.table)
    table.to_parquet(folder / "rows.parquet", index=False)
    spec = case.kind.spec(case.parsed, [table])
    return spec, case.kind.read([folder / "rows.parquet"], spec)


def _fitted(case: Case, rows: Rows, spec: Spec) -> Any:
    return case.kind.fit([case.kind.summarise(rows, spec)], spec) if case.kind.fits else None


def _start(case: Case, folder: Path) -> tuple[Loaded, Rows]:
    spec, rows = _rows(case, folder)
    start = folder / "start"
    start.mkdir()
    case.kind.initialise(case.base, start, spec, 0, 0.0, _fitted(case, rows, spec))
    return case.kind.load(start, spec), rows


def _predict(case: Case, model: Loaded, rows: Rows) -> np.ndarray:
    found = predictions(model, case.kind.encode(model, rows, MAX_LENGTH), "float32")
    return case.kind.answer(model, rows, found, MAX_LENGTH)


def _some(rows: Rows, which: Sequence[int]) -> Rows:
    picked = list(which)
    features = [rows.features[i] for i in picked] if isinstance(rows.features, list) else rows.features[picked]
    return Rows(features, rows.target[picked], [rows.unit[i] for i in picked], rows.weight[picked])


def _close(one: Any, two: Any) -> bool:
    if isinstance(one, Mapping):
        return set(one) == set(two) and all(_close(one[k], two[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(_close, one, two))
    return bool(np.isclose(one, two, rtol=1e-9)) if isinstance(one, float) else bool(one == two)
