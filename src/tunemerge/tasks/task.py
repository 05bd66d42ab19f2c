"""What a task is: how rows become model inputs, which model predicts, and what a prediction is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunemerge.registry import Registry
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.rows import Rows


class Task(Protocol):
    """One kind of task. Models are torch modules; a model's folder is a plain Hugging Face folder."""

    name: str
    head_names: tuple[str, ...]
    """Parts of the names of tensors that belong to the head."""

    def read(self, paths: Sequence[Path], labels: Sequence[str]) -> Rows:
        """The rows of one or more splits, one after the other."""

    def initialise(
        self, folder: Path, out: Path, labels: Sequence[str], seed: int, dropout: float | None = None
    ) -> None:
        """Write the model of `folder` to `out` in float32, with a head for exactly these labels in this order."""

    def load(self, folder: Path, labels: Sequence[str], dropout: float | None = None) -> Any:
        """The model in float32, in evaluation mode; refused if its labels are others or in another order."""

    def save(self, model: Any, source: Path, out: Path) -> None:
        """Write `model` to `out` in float32, with the tokenizer files of `source` as they are."""

    def encode(self, folder: Path, model: Any, rows: Rows, max_length: int) -> Encoded:
        """Model inputs of the rows, unpadded."""

    def head(self, model: Any) -> list[Any]:
        """The parameters that a linear probe trains; `body(model)` has the others."""

    def body(self, model: Any) -> Any:
        """The module below the head."""


TASKS: Registry[Task] = Registry("task", "tunemerge.tasks", "tunemerge.tasks")


def code_of_task(params: Mapping[str, Any]) -> dict[str, str]:
    """For the key of a step with these parameters: the digest of its task's code, where that is a plug-in's."""
    return TASKS.code(params["task"]) if "task" in params else {}
