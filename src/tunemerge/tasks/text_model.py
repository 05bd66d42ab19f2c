"""What kinds share whose model is a Hugging Face text encoder or decoder with a head: loading, saving, tokenizing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from tunemerge.checkpoint.heads import Heads, read_heads, write_heads
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.errors import CheckpointError
from tunemerge.tasks import hub
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.fitted import read_fitted, write_fitted
from tunemerge.tasks.rows import Rows, read_table, rows_from, texts
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import Loaded, Source, TaskKind

# Families whose position table begins after the padding index: that many positions fewer than the config says.
_OFFSET_POSITIONS = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod", "luke", "ibert")


class TextOptions(BaseModel):
    """Which columns hold what a model reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field("text", description="column of the text", examples=["review"])
    pair: str | None = Field(
        None, description="column of a second text, read after the first (a question and its answer)",
        examples=["answer"],
    )  # fmt: skip


def text_columns(table: pd.DataFrame, options: TextOptions) -> pd.DataFrame:
    """Columns of rows: `text`, and `pair` where there is one."""
    columns = {"text": table[options.text].astype(str)}
    if options.pair is not None:
        columns["pair"] = table[options.pair].astype(str)
    return pd.DataFrame(columns, index=table.index)


def joined(rows: Rows) -> list[str]:
    """One text a row, for models that count words."""
    return [" ".join(text) if isinstance(text, tuple) else text for text in rows.features]


class TextKind(TaskKind):
    """What kinds of a text, or of two, have in common; what a row's answer is, they say themselves.

    The options have a field for every name in `target`: the column that holds it.
    """

    head_names = ("classifier.", "score.", "classification_head.")
    shares_body = "text"

    def source(self, options: Any) -> Source:
        answer = {name: getattr(options, name) for name in self.target}
        columns = {"text": options.text, **({"pair": options.pair} if options.pair else {}), **answer}
        return Source(columns, frozenset(columns))

    def texts(self, rows: pd.DataFrame) -> list[str]:
        if "pair" in rows:
            return [f"{text} {pair}" for text, pair in zip(rows["text"], rows["pair"], strict=True)]
        return list(rows["text"])

    @abstractmethod
    def answers(self, table: pa.Table, spec: Spec, paths: Sequence[Path]) -> np.ndarray:
        """The target of rows, as in Rows. UsageError for a row without one (names it)."""

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """Features are texts, or pairs of them."""
        table = read_table(paths, ["text", *(["pair"] if spec.options.get("pair") else []), *self.target])
        found: list[Any] = texts(table, "text", paths)
        if spec.options.get("pair"):
            found = list(zip(found, texts(table, "pair", paths), strict=True))
        return rows_from(table, found, self.answers(table, spec, paths))

    @abstractmethod
    def check_outputs(self, config: Any, spec: Spec, folder: Path) -> None:
        """UsageError for a model of one head that predicts something else."""

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        """Of a model with several heads, that of `spec`."""
        config, heads = hub.read_config(folder), read_heads(folder)
        if heads is None:
            self.check_outputs(config, spec, folder)
        else:
            heads.rows(spec.labels)
        hub.set_dropout(config, dropout, folder)
        with hub.quiet():
            net = load_model(folder, config, complete=True)
        fitted = read_fitted(folder) if heads is None else heads.fitted(spec.as_dict())
        return Loaded(net.eval(), spec, folder, fitted, heads)

    def refit(self, net: Any, rows: Sequence[int], had: Any, fitted: Any, folder: Path) -> None:
        """Change these rows of the output layer, which were trained with `had` fitted, so that they say the same with
        `fitted`."""

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        """(batch, labels): of several heads, the outputs of this one."""
        outputs = model.net(**inputs).logits
        return outputs if model.heads is None else outputs[:, model.heads.rows(model.spec.labels)]

    def save(self, model: Loaded, out: Path) -> None:
        heads = model.heads and model.heads.taught(model.spec.labels)
        save_model(model.net, model.folder, out, model.fitted, heads)

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Encoded:
        pairs = bool(rows.features) and isinstance(rows.features[0], tuple)
        sides = [list(side) for side in zip(*rows.features, strict=True)] if pairs else [list(rows.features)]
        return tokenized(model.folder, model.net.config, sides, max_length)


def tokenized(folder: Path, config: Any, sides: Sequence[list[str]], max_length: int) -> Encoded:
    """Token lists of texts, or of first and second texts, by the tokenizer of a folder, cut at the shorter of
    `max_length` and what the tokenizer and the model of this config allow."""
    tokenizer = hub.tokenizer_of(folder)
    limit = longest_row(tokenizer, config, max_length)
    encoding = tokenizer(*sides, truncation=True, max_length=limit, return_attention_mask=True)
    padding = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id}
    columns = {name: encoding[name] for name in encoding if name in padding}
    return Encoded(columns, padding, tokenizer.padding_side == "left", limit)


def save_model(net: Any, source: Path, out: Path, fitted: Any = None, heads: Heads | None = None) -> None:
    """A plain Hugging Face folder: config, weights, the tokenizer files of `source` as they are; what was fitted, or
    the record of several heads."""
    with hub.quiet():
        net.save_pretrained(out, max_shard_size="1000GB")
    hub.copy_tokenizer(source, out)
    if heads is None:
        write_fitted(out, fitted)
    else:
        write_heads(out, heads)


def load_model(
    folder: Path, config: Any, complete: bool = False, auto: str = "AutoModelForSequenceClassification"
) -> Any:
    """A model of transformers' class `auto` in float32. `complete`: refused where the file lacks a tensor of it."""
    import torch
    import transformers

    open_checkpoint(folder)  # refuses what is truncated, pickled or leads out of the folder
    try:
        model, report = getattr(transformers, auto).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as fault:
        raise CheckpointError(f"{folder}: transformers cannot load it: {fault}") from fault
    if complete and report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{folder}: tensor {missing[0]} is missing (and {len(missing) - 1} more): config.json describes a whole "
            f"model ({model.__class__.__name__}), but the file holds only part of one"
        )
    return model


def output_tensors(config: Any, auto: str = "AutoModelForSequenceClassification") -> list[str]:
    """Names of the tensors with one row a label: those whose shape follows the number of labels."""
    import copy

    import torch
    import transformers

    shapes = []
    for extra in (0, 1):
        other = copy.deepcopy(config)
        other.num_labels = config.num_labels + extra
        with torch.device("meta"):
            model = getattr(transformers, auto).from_config(other)
        shapes.append({name: tensor.shape for name, tensor in model.state_dict().items()})
    return [name for name, shape in shapes[0].items() if shape != shapes[1][name]]


def longest_row(tokenizer: Any, config: Any, max_length: int) -> int:
    """In tokens: the shortest of `max_length` and what tokenizer and position embeddings allow."""
    return min(max_length, int(min(tokenizer.model_max_length, 10**9)), _positions(config))


def _positions(config: Any) -> int:
    """Longest sequence that the position embeddings allow."""
    positions = getattr(config, "max_position_embeddings", None) or 10**9
    if any(family in config.model_type for family in _OFFSET_POSITIONS):
        positions -= (config.pad_token_id or 0) + 1
    return int(positions)
