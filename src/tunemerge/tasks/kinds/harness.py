"""Tasks of the Language Model Evaluation Harness by name: documents split, answers learned, scores compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tunemerge.data.load import FOLDER
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks import harness, hub
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.causal_model import CausalKind, encoded_rows
from tunemerge.tasks.chat import Part
from tunemerge.tasks.kinds.instructions import supervised_findings, tokens_of
from tunemerge.tasks.rows import Rows, read_table, rows_from, texts
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, Loaded, Source
from tunemerge.tasks.text_model import longest_row

_COLUMNS = ("task", "document", "shots", "prompt", "completion")
_WRONG = "wrong"


class HarnessOptions(BaseModel):
    """A task of the harness: `data: lm-eval:NAME`. The keys are the harness's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_fewshot: int | None = Field(
        None, ge=0, description="examples before each document, the same before all and never rows themselves; absent: "
        "as many as the task says", examples=[3],
    )  # fmt: skip
    apply_chat_template: bool = Field(
        False, description="whether the tokenizer's chat template is put around what is asked", examples=[True]
    )
    gen_kwargs: dict[str, Any] = Field(
        {}, description="how answers are generated, over what the task says", examples=[{"max_gen_toks": 64}]
    )
    include_path: str | None = Field(
        None, description="folder of YAML files of further tasks, seen from the study file", examples=["my-tasks"]
    )
    model_args: dict[str, Any] = Field(
        {}, description="arguments of the harness's model class", examples=[{"batch_size": 4, "add_bos_token": True}]
    )
    score: str | None = Field(
        None, description="the task's metric that counts: one that is a mean over documents, where more is better; "
        "absent: its first", examples=["acc_norm"],
    )  # fmt: skip


class Harness(CausalKind):
    """Rows have a `document` and the `shots` before it; a prediction is how likely a model finds the right answer
    (nats, tokens, bytes) and what its own answer is worth by the harness."""

    name = "lm-eval"
    prediction = "harness"
    metric = "lm_eval"
    Options = HarnessOptions
    target = ("completion",)
    generates = True

    def complete(
        self, options: Sequence[Any], tables: Sequence[pd.DataFrame], apart: Sequence[Collection[str]]
    ) -> list[Any]:
        return [_placed(one, table) for one, table in zip(options, tables, strict=True)]

    def unfold(self, table: pd.DataFrame, options: HarnessOptions) -> pd.DataFrame:
        """The documents of the tasks that the table names."""
        if list(table.columns) != ["task"]:
            return table
        asked = _asked(_placed(options, table).model_dump())
        try:
            rows = [row for name in table["task"] for row in _rows(name, asked)]
        except UsageError as e:
            return table.assign(**dict.fromkeys(_COLUMNS[1:], ""), **{_WRONG: str(e)})
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def source(self, options: HarnessOptions) -> Source:
        return Source({name: name for name in _COLUMNS}, frozenset(_COLUMNS))

    def convert(self, table: pd.DataFrame, options: HarnessOptions, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        found = [error("lm-eval", text, where) for text in table.get(_WRONG, [])]
        return table[list(_COLUMNS)], found

    def spec(self, options: HarnessOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        from importlib.metadata import version

        return Spec(self.name, (), {**options.model_dump(), "version": version("lm_eval")})

    def preview(self, folder: Path, spec: Spec, rows: pd.DataFrame, max_length: int, where: str) -> list[Finding]:
        features = [
            (name, json.loads(doc), json.loads(shots))
            for name, doc, shots in zip(rows["task"], rows["document"], rows["shots"], strict=True)
        ]
        try:
            tokenizer = hub.tokenizer_of(folder)
            limit = longest_row(tokenizer, hub.read_config(folder), max_length)
            pairs = _pairs(features, tokenizer, _asked(spec.options))
        except UsageError as e:
            return [error("lm-eval", str(e), where)]
        return supervised_findings(pairs, list(rows.index), limit, tokenizer, where)

    def texts(self, rows: pd.DataFrame) -> list[str]:
        return [a + b for a, b in zip(rows["prompt"], rows["completion"], strict=True)]

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """Features are task, document and examples; the target are the right answer's bytes."""
        table = read_table(paths, list(_COLUMNS))
        columns = [texts(table, name, paths) for name in _COLUMNS]
        features = [(name, json.loads(doc), json.loads(shots)) for name, doc, shots, *_ in zip(*columns, strict=True)]
        return rows_from(table, features, np.array([len(text.encode()) for text in columns[-1]], np.float64))

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Encoded:
        """The tokens of the right answer are supervised, with the one that ends it. Of a row that is too long the
        beginning is left out, and its share of the bytes."""
        tokenizer, asked = hub.tokenizer_of(model.folder), _asked(model.spec.options)
        limit = longest_row(tokenizer, model.net.config, max_length)
        tokens, supervised, size = [], [], rows.target.copy()
        for row, (ids, learned) in enumerate(_pairs(rows.features, tokenizer, asked)):
            tokens.append(ids[-limit:])
            supervised.append(learned[-limit:])
            size[row] *= sum(supervised[-1]) / max(1, sum(learned))
        return encoded_rows(tokens, supervised, size, tokenizer.pad_token_id, limit)

    def answer(self, model: Loaded, rows: Rows, outputs: np.ndarray, max_length: int) -> np.ndarray:
        """With what the harness says that the model's own answer is worth."""
        tokenizer, asked = hub.tokenizer_of(model.folder), _asked(model.spec.options)
        room = longest_row(tokenizer, model.net.config, max_length)
        scores = harness.scores_of(model.net, tokenizer, asked, _with_tasks(rows.features, asked), room)
        return np.concatenate([outputs, np.array(scores)[:, None]], axis=1)

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """Nats a token of the right answers."""
        return METRICS["lm_eval_nll"].fn(rows.target, predictions, rows.weight)

    def score(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """For curves: minus nats a token, since the harness is not asked while a model is trained."""
        return -self.held_out_loss(model, predictions, rows)


def _rows(name: str, asked: harness.Asked) -> list[tuple[str, ...]]:
    """The documents of a task, each with what is asked and the right answer as they are without a chat template."""
    task, plain = harness.task_of(name, asked), harness.Asked()
    documents, shots = harness.documents_of(task, asked)
    before = harness.as_json(shots, name)
    out: list[tuple[str, ...]] = []
    for doc in documents:
        context, answer = harness.right_answer(task, doc, harness.requests_of(task, doc, shots, None, plain))
        out.append((name, harness.as_json(doc, name), before, context, answer))
    return out


def _with_tasks(features: Sequence[Any], asked: harness.Asked) -> list[tuple[Any, Mapping[str, Any], Sequence[Any]]]:
    tasks = {name: harness.task_of(name, asked) for name in {name for name, *_ in features}}
    return [(tasks[name], doc, shots) for name, doc, shots in features]


def _pairs(features: Sequence[Any], tokenizer: Any, asked: harness.Asked) -> list[tuple[list[int], list[int]]]:
    """Tokens of every row, and 1 for those of the right answer."""
    out = []
    for task, doc, shots in _with_tasks(features, asked):
        requests = harness.requests_of(task, doc, shots, tokenizer, asked)
        context, answer = harness.right_answer(task, doc, requests, asked.apply_chat_template)
        out.append(tokens_of([Part(context, False), Part(answer, True)], tokenizer))
    return out


def _asked(options: Mapping[str, Any]) -> harness.Asked:
    return harness.Asked(**{name: value for name, value in options.items() if name != "version"})


def _placed(options: HarnessOptions, table: pd.DataFrame) -> HarnessOptions:
    """With `include_path` seen from where the table lies."""
    if options.include_path is None:
        return options
    folder = (Path(table.attrs.get(FOLDER, ".")) / options.include_path).resolve()
    return options.model_copy(update={"include_path": str(folder)})


TASKS.add(Harness.name, Harness())
