"""What the two kinds of tasks on tables share: columns, preprocessing, networks, simple models beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from tunemerge.checkpoint.model import open_checkpoint, read_json
from tunemerge.errors import UsageError
from tunemerge.findings import Finding
from tunemerge.tasks import made, table_columns, table_fit
from tunemerge.tasks.batching import Arrays
from tunemerge.tasks.fitted import read_fitted
from tunemerge.tasks.rows import Rows, read_table, rows_from
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.table_columns import PREFIX, TableOptions
from tunemerge.tasks.task import Loaded, Source, TaskKind


class TableKind(TaskKind):
    """A row is numbers and categories; the preprocessing fitted to training rows is in the model's folder."""

    head_names = ("head.",)
    fits = True
    answer_key: ClassVar[str]
    """The column of rows with the answer, and the key that names it."""

    def target_spec(self, options: Any, rows: Sequence[pd.DataFrame]) -> tuple[str, ...]:
        """The labels, or the name of the quantity."""
        raise NotImplementedError

    def targets(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        """As in Rows."""
        raise NotImplementedError

    # From a table to rows

    def complete(
        self, options: Sequence[Any], tables: Sequence[pd.DataFrame], apart: Sequence[Collection[str]]
    ) -> list[Any]:
        apart = [{*own, getattr(o, self.answer_key)} for o, own in zip(options, apart, strict=True)]
        return list(table_columns.complete(options, tables, apart))

    def complete_for(self, options: Any, folder: Path) -> Any:
        fitted = read_fitted(folder)
        if not fitted or "columns" not in fitted or options.columns or options.numeric or options.categorical:
            return options
        numeric, categorical = (list(fitted["columns"][key]) for key in ("numeric", "categorical"))
        read = {"columns": numeric + categorical, "numeric": numeric, "categorical": {c: [] for c in categorical}}
        return options.model_copy(update=read)

    def source(self, options: Any) -> Source:
        columns = {f"columns.{name}": name for name in options.columns}
        return Source({**columns, self.answer_key: getattr(options, self.answer_key)}, frozenset({self.answer_key}))

    def spec(self, options: TableOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        read = {"numeric": options.numeric, "categorical": options.categorical, "rare": options.rare}
        return Spec(self.name, self.target_spec(options, rows), read)

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        return made.own_labels(config) if made.is_made(config) else None

    def check_all(self, spec: Spec, tasks: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]]) -> list[Finding]:
        return table_columns.unknown_categories(spec.options, tasks)

    def misfits(self, folder: Path, spec: Spec) -> str | None:
        if not made.is_made(read_json(folder / "config.json")):
            return "is no network for tables: `base: {build: table_mlp}` makes one"
        fitted = read_fitted(folder)
        return None if fitted is None else table_fit.other_columns(fitted, spec.options)

    def row_flops(self, folder: Path, spec: Spec) -> float | None:
        shapes = {name: info.shape for name, info in open_checkpoint(folder).tensors.items()}
        matrices = sum(prod(s) for n, s in shapes.items() if len(s) == 2 and "embedding" not in n)
        # A transformer's matrices are applied to every column, and to the token that the answer is read from.
        columns = [shapes[n][0] for n in ("body.cont_embeddings.weight", "body.cat_embeddings.bias") if n in shapes]
        return 2.0 * matrices * (1 + sum(columns))

    # From rows to predictions

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        names = [*spec.options["numeric"], *spec.options["categorical"]]
        table = read_table(paths, [*(PREFIX + name for name in names), self.answer_key])
        return rows_from(table, table_fit.read_features(table, spec.options), self.targets(table, spec, paths))

    def summarise(self, rows: Rows, spec: Spec) -> Any:
        return table_fit.summarise(rows, spec.options)

    def fit(self, summaries: Sequence[Any], spec: Spec) -> Any:
        return {"columns": table_fit.fit(summaries, spec.options)}

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """A network that was trained keeps the preprocessing that it was trained with; one that is drawn gets
        `fitted`."""
        own = read_fitted(folder)
        self._refuse_misfit(folder, spec)
        made.initialise(folder, out, spec, seed, dropout, fitted if own is None else own)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        self._refuse_misfit(folder, spec)
        return made.load(folder, spec, dropout)

    def _refuse_misfit(self, folder: Path, spec: Spec) -> None:
        why = self.misfits(folder, spec)
        if why is not None:
            raise UsageError(f"{folder}: {why}")

    def save(self, model: Loaded, out: Path) -> None:
        made.save(model, out)

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Arrays:
        return table_fit.encode(rows.features, model.fitted["columns"])

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        return made.logits(model.net(**inputs))

    def body(self, model: Loaded) -> Any:
        return made.body(model)
