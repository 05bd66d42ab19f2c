"""Text regression: one number a text, from a Hugging Face encoder or decoder with one output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from tunemerge.errors import UsageError
from tunemerge.findings import Finding
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks import hub
from tunemerge.tasks.columns import value_column
from tunemerge.tasks.fitted import read_fitted
from tunemerge.tasks.labels import is_classifier, own_labels
from tunemerge.tasks.rows import Rows, value_targets
from tunemerge.tasks.scaling import Scale, scale_of, summary_of, value_findings
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded
from tunemerge.tasks.text_model import TextKind, TextOptions, load_model, output_tensors, text_columns
from tunemerge.tasks.word_controls import ridge


class RegressionOptions(TextOptions):
    """A text, or two, and a number."""

    value: str = Field("value", description="column of the number to predict", examples=["valence"])
    quantity: str = Field(
        "value", description="what the number is; tasks that share a quantity share a head", examples=["valence"]
    )


class TextRegression(TextKind):
    """Rows have a `text` column (and a `pair`) and a `value`; a prediction is one number in the unit of the data.

    The model's one output is standardised: its mean and spread over all training rows are in the model's folder.
    """

    name = "text-regression"
    prediction = "value"
    metric = "r2"
    Options = RegressionOptions
    target = ("value",)
    fits = True
    controls: ClassVar[Mapping[str, KindControl]] = {
        "tfidf_linear": KindControl(ridge, "Ridge regression on words and pairs of words, no checkpoint.")
    }

    def convert(
        self, table: pd.DataFrame, options: RegressionOptions, where: str
    ) -> tuple[pd.DataFrame, list[Finding]]:
        value, found = value_column(table[options.value], options.value, where)
        return text_columns(table, options).assign(value=value), found

    def spec(self, options: RegressionOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        return Spec(self.name, (options.quantity,), {"pair": True} if options.pair else {})

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        names = own_labels(config)
        return tuple(names) if is_classifier(config) and len(names) == 1 else None

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        return value_findings(parts, "value", where)

    def answers(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        return value_targets(table, "value", paths)

    def summarise(self, rows: Rows, spec: Spec) -> Any:
        return summary_of(rows.target)

    def fit(self, summaries: Sequence[Any], spec: Spec) -> Any:
        return scale_of(summaries)

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """A base without a head, or with one of several labels, gets a fresh one, drawn from `seed`.

        A regressor keeps its one output, moved exactly to the mean and spread of `fitted` where it has others.
        """
        from transformers import set_seed

        config = hub.read_config(folder)
        hub.set_dropout(config, dropout, folder)
        kept = is_regressor(config)
        if not kept:
            _make_regressor(config, spec.labels)
        if config.pad_token_id is None:
            config.pad_token_id = hub.tokenizer_of(folder).pad_token_id
        with hub.quiet():
            set_seed(seed)
            net = load_model(folder, config, complete=kept)
        if kept:
            self.refit(net, [0], read_fitted(folder), fitted, folder)
            _make_regressor(config, spec.labels)
        self.save(Loaded(net, spec, folder, fitted), out)

    def check_outputs(self, config: Any, spec: Spec, folder: Path) -> None:
        if not is_regressor(config) or hub.label_names(config) != list(spec.labels):
            found = ", ".join(hub.label_names(config))
            raise UsageError(
                f"{folder / 'config.json'}: its outputs are {found}; expected one number, {spec.labels[0]}. Give the "
                "model a head for it first (operation init)"
            )

    def refit(self, net: Any, rows: Sequence[int], had: Any, fitted: Any, folder: Path) -> None:
        """(w x + b) s + m = (w' x + b') s' + m'."""
        import torch

        old, new = Scale.of(had), Scale.of(fitted)
        if old == new:
            return
        names = output_tensors(net.config)
        state = net.state_dict()
        bias = next((n for n in names if n.endswith("bias")), None)
        if bias is None and old.mean != new.mean:
            raise UsageError(
                f"{folder}: its output has no bias, so it can't be moved to the mean of this study's values"
            )
        with torch.no_grad():
            for name in names:
                state[name][rows] = state[name][rows] * (old.std / new.std)
            if bias is not None:
                state[bias][rows] = state[bias][rows] + (old.mean - new.mean) / new.std

    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        scale = Scale.of(model.fitted)
        return (outputs.float()[:, 0] - ((target - scale.mean) / scale.std).float()) ** 2

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        scale = Scale.of(model.fitted)
        return outputs.double() * scale.std + scale.mean

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The squared error in units of the training rows' variance."""
        error = METRICS["rmse"].fn(rows.target, predictions, rows.weight)
        return (error / Scale.of(model.fitted).std) ** 2


def is_regressor(config: Any) -> bool:
    """Whether a config says that its one output is a number."""
    classifier = any(str(a).endswith("ForSequenceClassification") for a in config.architectures or ())
    return classifier and len(config.id2label) == 1


def _make_regressor(config: Any, labels: Sequence[str]) -> None:
    config.id2label, config.label2id = {0: labels[0]}, {labels[0]: 0}
    config.problem_type = "regression"


TASKS.add(TextRegression.name, TextRegression())
