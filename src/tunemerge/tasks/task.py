"""What a kind of task is: how a person's table becomes rows, rows become model inputs, and outputs predictions.

One file in `tasks/kinds/` defines a subclass of `TaskKind` and registers it with `TASKS.add`; `docs/own-task.md` says
how, and `testing/tasks.py` holds what every kind must keep. Modules of kinds import in milliseconds: torch inside
functions only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel

from tunemerge.checkpoint.heads import Heads
from tunemerge.findings import Finding
from tunemerge.registry import Registry
from tunemerge.stats.metrics import METRICS, log_softmax
from tunemerge.tasks.batching import Inputs
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.spec import Spec


@dataclass(frozen=True)
class Source:
    """The columns of a person's table that a kind reads: `columns` by the key that names each, of which those in
    `required` may not be empty."""

    columns: Mapping[str, str]
    required: frozenset[str]


@dataclass(frozen=True)
class Loaded:
    """A model of a folder, ready to run: a torch module in float32 and evaluation mode, what it predicts, and what was
    fitted to training rows (JSON; None where the kind fits nothing). `heads`: where the network has several, of which
    this is one."""

    net: Any
    spec: Spec
    folder: Path
    fitted: Any = None
    heads: Heads | None = None


# (spec, training rows, rows to predict, seed) -> outputs [rows, k], as `predictions` gives them.
Control = Callable[[Spec, Rows, Rows, int], np.ndarray]


@dataclass(frozen=True)
class KindControl:
    """A simple model that every report of a kind shows: fitted without a checkpoint, never handed back."""

    run: Control
    description: str
    version: int = 1
    own: bool = False
    """Whether it is fitted to each task's own training rows instead of those of all tasks."""
    package: str = ""
    """What has to be installed beside tunemerge; studies have it only where that is. Its version is part of the key."""

    @property
    def installed(self) -> bool:
        return not self.package or find_spec(self.package) is not None


class TaskKind(ABC):
    """One kind of task. Instances hold no state: all is in the arguments.

    `prediction` says what an output row is, and so which metrics apply: "classes" (a logit a label), "value" (one
    number in the unit of the data), or a word of its own with metrics registered for it. `metric` is what decides
    unless a study says otherwise. `target` names the columns of rows that hold the answer; all others but `unit` and
    `weight` are inputs. `head_names` are parts of the names of tensors that belong to the head; a kind without any has
    no head that could be trained alone. `adapter_task` is what PEFT calls a model of this kind. `generates`: whether
    `answer` adds columns to predictions.
    `shares_body`: a word for the sort of model; tasks of other labels, or of another kind with this word, can be
    answered by one body: with heads of their own, or, without `head_names`, as they are. Without a word they can't.
    `opaque`: columns (by their keys) whose cells stand for something else, a path for an image: not judged as values.
    `timed`: rows have columns `series`, `time` and `known` (numbers, all in `target`): when a row's prediction is made,
    and when its answer was known. Nothing is then trained or chosen on what was not yet known, and units may come back.
    """

    name: ClassVar[str]
    prediction: ClassVar[str]
    metric: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    target: ClassVar[tuple[str, ...]]
    head_names: ClassVar[tuple[str, ...]] = ()
    adapter_task: ClassVar[str] = "SEQ_CLS"
    generates: ClassVar[bool] = False
    shares_body: ClassVar[str] = ""
    opaque: ClassVar[tuple[str, ...]] = ()
    fits: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    controls: ClassVar[Mapping[str, KindControl]] = {}

    # From a person's table to rows: no torch, and everything that is wrong as findings

    def unfold(self, table: pd.DataFrame, options: Any) -> pd.DataFrame:
        """The table as it is read, as one with a line a row: for kinds that cut long documents into rows."""
        return table

    @abstractmethod
    def source(self, options: Any) -> Source:
        """Which columns of the table are read. `options` is an instance of `Options`."""

    def complete(
        self, options: Sequence[Any], tables: Sequence[pd.DataFrame], apart: Sequence[Collection[str]]
    ) -> list[Any]:
        """The options of a study's tables with all filled in that is inferred from the tables together (what columns
        there are, say). `apart` are each table's columns that have another role."""
        return list(options)

    def complete_for(self, options: Any, folder: Path) -> Any:
        """The options with all filled in that the model of a folder says (which columns it reads, say)."""
        return options

    @abstractmethod
    def convert(self, table: pd.DataFrame, options: Any, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        """The kind's own columns of rows (inputs and target) for every line of a table that has all columns of
        `source`, with its index; and errors that name rows which can't be used. A cell is whatever Parquet holds. A
        column `unit` says which rows are one piece of evidence, unless the person does."""

    @abstractmethod
    def spec(self, options: Any, rows: Sequence[pd.DataFrame]) -> Spec:
        """What the task predicts, from all of its rows: the labels that occur, for one."""

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        """What the head predicts that a config.json describes; None where it has none for this kind."""
        return None

    def refuses(self, config: Mapping[str, Any], spec: Spec | None = None) -> str | None:
        """Why a model with this config.json can't be used (with `spec`: for these rows); None where it can. Keys of the
        config may be missing."""
        return None

    def check(self, spec: Spec, parts: Mapping[str, pd.DataFrame], where: str) -> list[Finding]:
        """What speaks against these splits (source, adapt, validation, test): classes that are missing, for one."""
        return []

    def check_all(self, spec: Spec, tasks: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]]) -> list[Finding]:
        """What is worth knowing of all tasks together: their splits, by run."""
        return []

    def preview(self, folder: Path, spec: Spec, rows: pd.DataFrame, max_length: int, where: str) -> list[Finding]:
        """What the model in `folder` would read and learn of these rows, as findings: a sample as a note, what is cut
        as a warning, a row of which nothing would be learned as an error. A tokenizer may be loaded, no model."""
        return []

    def texts(self, rows: pd.DataFrame) -> list[str] | None:
        """The texts whose tokens make the length of each row, for plans; None where all rows are of one size."""
        return None

    def misfits(self, folder: Path, spec: Spec) -> str | None:
        """Why the model of a folder can't read such rows, as far as its small files tell."""
        return None

    def row_flops(self, folder: Path, spec: Spec) -> float | None:
        """Floating-point operations of a row's forward pass, for plans; None: what the headers of a transformer of
        tokens tell."""
        return None

    # From rows to predictions: steps of the graph

    @abstractmethod
    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """The rows of one or more splits, one after the other. UsageError for a row that can't be used."""

    def summarise(self, rows: Rows, spec: Spec) -> Any:
        """What `fit` needs of these rows, as JSON: sums and counts, never values of single rows."""
        return None

    def fit(self, summaries: Sequence[Any], spec: Spec) -> Any:
        """What is fitted to training rows (a scaler, categories), as JSON, from the summaries of all tasks."""
        return None

    @abstractmethod
    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """Write the model of `folder` to `out` in float32, with a head for `spec`, fresh ones drawn from `seed`."""

    @abstractmethod
    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        """The model in float32, in evaluation mode; UsageError if it predicts something else than `spec`."""

    @abstractmethod
    def save(self, model: Loaded, out: Path) -> None:
        """Write the model to `out` in float32, with everything that `load` needs."""

    @abstractmethod
    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Inputs:
        """Model inputs of the rows, to be cut into batches."""

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        """What the loss reads: one tensor, first axis the batch. `inputs` are torch tensors, a batch of `encode`."""
        return model.net(**inputs).logits

    @abstractmethod
    def loss(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any], target: Any, smoothing: float) -> Any:
        """The loss of every row, float32 (batch,); `target` as in Rows; `smoothing` is for labels."""

    def predictions(self, model: Loaded, outputs: Any, inputs: Mapping[str, Any]) -> Any:
        """What is stored and scored, a tensor (batch, k): logits, values in the unit of the data, ..."""
        return outputs

    def answer(self, model: Loaded, rows: Rows, outputs: np.ndarray, max_length: int) -> np.ndarray:
        """`outputs` of these rows with columns for what a model writes. Asked where a metric needs it, or a test is
        scored: it takes many passes. Only of kinds that say `generates`."""
        return outputs

    def ensemble(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Several models' predictions as one: mean probabilities of classes, else the mean."""
        mean = np.mean([np.exp(log_softmax(o)) if self.prediction == "classes" else o for o in outputs], axis=0)
        return np.asarray(np.log(np.maximum(mean, np.finfo(np.float64).tiny)) if self.prediction == "classes" else mean)

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """What chooses the checkpoint, lower is better, near 1 for a model that knows nothing: kinds are added up."""
        return METRICS["log_loss"].fn(rows.target, predictions, rows.weight)

    def score(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """The kind's own metric, for curves."""
        return METRICS[self.metric].fn(rows.target, predictions, rows.weight)

    def head(self, model: Loaded) -> list[Any]:
        """The parameters that a linear probe trains; `body(model)` has all others."""
        below = {id(p) for p in self.body(model).parameters()}
        return [p for p in model.net.parameters() if id(p) not in below]

    def body(self, model: Loaded) -> Any:
        """The module below the head."""
        return model.net.base_model

    def frozen(self, spec: Spec) -> tuple[str, ...]:
        """What the names of parameters begin with that no tuning changes."""
        return ()

    def several(self) -> Any:
        """What stands for the kind where one tuning reads rows of tasks that share a body but no labels."""
        from tunemerge.tasks.several import SeveralHeads

        return SeveralHeads()


SEVERAL = "several"
CODE = "code"
"""The option of a Spec with the digests of the code that makes a study's models."""

TASKS: Registry[TaskKind] = Registry("task", "tunemerge.tasks.kinds", "tunemerge.tasks")


def is_classes(kind: str) -> bool:
    """Whether a kind predicts classes, so that an answer is right or wrong."""
    return TASKS[kind].prediction == "classes"


def code_of_task(params: Mapping[str, Any]) -> dict[str, str]:
    """For the key of a step with these parameters: the digests of its task's code and of what makes its models, where
    those are a person's own."""
    if "task" not in params:
        return {}
    task = params["task"]
    kinds = [one["kind"] for one in (task["options"]["heads"] if task["kind"] == SEVERAL else [task])]
    codes = {name: digest for kind in kinds for name, digest in TASKS.code(kind).items()}
    return {**codes, **{f"network {i}": code for i, code in enumerate(task["options"].get(CODE, ()))}}


def kind_of(spec: Spec) -> Any:
    """The kind of a spec, that of several heads too."""
    return TASKS[spec.kind] if spec.kind != SEVERAL else TASKS[spec.options["heads"][0]["kind"]].several()
