"""Models of two towers, one for a text and one for the columns beside it: folder, rows and simple models."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from tunemerge.checkpoint.model import SINGLE, open_checkpoint, read_json
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.findings import Finding
from tunemerge.registry import listed, nearest
from tunemerge.tasks import hub, table_controls, table_fit, word_controls
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.fitted import read_fitted, write_fitted
from tunemerge.tasks.hub_classifier import empty_model
from tunemerge.tasks.made_network import is_made, own_labels
from tunemerge.tasks.rows import Rows, read_table, rows_from, texts
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.table_columns import PREFIX
from tunemerge.tasks.table_fit import Features
from tunemerge.tasks.table_model import TableKind
from tunemerge.tasks.task import Control, Loaded, Source
from tunemerge.tasks.text_model import load_model, tokenized

MODEL_TYPE = "tunemerge-text-table"
# Where both towers meet: as wide as the tower of columns.
_WIDTH = 64

TEXT: Any = Field("text", description="column of the text", examples=["tweets"])
"""The key of the options of both kinds."""


@dataclass(frozen=True)
class TextAndColumns:
    """Of n rows: `texts`, and what stands in the columns beside them."""

    texts: Sequence[str]
    columns: Features

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: Any) -> TextAndColumns:
        chosen = np.arange(len(self))[rows]
        return TextAndColumns([self.texts[i] for i in chosen], self.columns[chosen])


class TextTableKind(TableKind):
    """A row is a text beside numbers and categories. Mixed into a kind of tables, which says what the answer is.

    The model has a Hugging Face encoder (`text_tower`, its token states averaged), a multilayer perceptron for the
    columns (`table_tower`), and a layer over both (`fusion`) under the head; a recipe can merge each by its name.
    """

    def source(self, options: Any) -> Source:
        source = super().source(options)
        return Source({**source.columns, "text": options.text}, source.required | {"text"})

    def complete(
        self, options: Sequence[Any], tables: Sequence[pd.DataFrame], apart: Sequence[Collection[str]]
    ) -> list[Any]:
        return super().complete(options, tables, [{*own, o.text} for o, own in zip(options, apart, strict=True)])

    def convert(self, table: pd.DataFrame, options: Any, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        columns, found = super().convert(table, options, where)  # type: ignore[safe-super]  # the other parent's
        return columns.assign(text=table[options.text].astype(str)), found

    def texts(self, rows: pd.DataFrame) -> list[str]:
        return list(rows["text"])

    def own_labels(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        return own_labels(config) if config.get("model_type") == MODEL_TYPE else None

    def refuses(self, config: Mapping[str, Any], spec: Spec | None = None) -> str | None:
        return f"{self.name} starts from a text encoder, and this is none" if is_made(config) else None

    def misfits(self, folder: Path, spec: Spec) -> str | None:
        config, fitted = read_json(folder / "config.json"), read_fitted(folder)
        return self.refuses(config) or (table_fit.other_columns(fitted, spec.options) if fitted else None)

    def row_flops(self, folder: Path, spec: Spec) -> None:
        """What the headers tell of the text's tower: that of the columns is nothing beside it."""

    # From rows to predictions

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        names = [*spec.options["numeric"], *spec.options["categorical"]]
        table = read_table(paths, ["text", *(PREFIX + name for name in names), self.answer_key])
        features = TextAndColumns(texts(table, "text", paths), table_fit.read_features(table, spec.options))
        return rows_from(table, features, self.targets(table, spec, paths))

    def summarise(self, rows: Rows, spec: Spec) -> Any:
        return super().summarise(_columns_of(rows), spec)

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None = None, fitted: Any = None
    ) -> None:
        """Of a text encoder, its tower, and the rest as `seed` draws it. A model of this kind stays as it is, with the
        preprocessing that it was trained with and its outputs put into the order of the labels."""
        from transformers import set_seed

        self._refuse_misfit(folder, spec)
        if read_json(folder / "config.json").get("model_type") == MODEL_TYPE:
            model = self._load(folder, spec, dropout)
            return self.save(replace(model, net=_with_outputs(model.net, model.spec.labels, spec, folder)), out)
        config = hub.read_config(folder)
        hub.set_dropout(config, dropout, folder)
        set_seed(seed % 2**32)
        with hub.quiet():
            tower = load_model(folder, config, auto="AutoModel")
        self.save(Loaded(_network(tower, len(spec.labels), fitted, dropout), spec, folder, fitted), out)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        self._refuse_misfit(folder, spec)
        model = self._load(folder, spec, dropout)
        hub.same_labels(model.spec.labels, spec.labels, folder)
        return replace(model, spec=spec)

    def _load(self, folder: Path, spec: Spec, dropout: float | None) -> Loaded:
        """With the labels that the folder's own head has."""
        import torch
        from safetensors.torch import load_file
        from transformers import AutoConfig

        config, fitted = read_json(folder / "config.json"), read_fitted(folder)
        labels = self.own_labels(config)
        if labels is None or fitted is None:
            raise UsageError(f"{folder}: no model of text and columns: start one from a text encoder (operation init)")
        described = AutoConfig.for_model(**config["text"])
        hub.set_dropout(described, dropout, folder)
        open_checkpoint(folder)  # refuses what is truncated, pickled or leads out of the folder
        with torch.random.fork_rng(), hub.quiet():
            net = _network(empty_model(described, "AutoModel"), len(labels), fitted, dropout)
        state, own = load_file(folder / SINGLE), net.state_dict()
        strange = {(n, t.shape) for n, t in state.items()} ^ {(n, t.shape) for n, t in own.items()}
        if strange:
            names = listed(sorted({name for name, _ in strange}), 3)
            raise CheckpointError(f"{folder / SINGLE}: {names}: not as config.json describes the model")
        net.load_state_dict(state)
        return Loaded(net.eval(), replace(spec, labels=labels), folder, fitted)

    def save(self, model: Loaded, out: Path) -> None:
        """config.json, model.safetensors (float32), the tokenizer's files and what was fitted."""
        from safetensors.torch import save_file

        labels = {str(i): label for i, label in enumerate(model.spec.labels)}
        tower = model.net.text_tower.config.to_dict()
        config = {"model_type": MODEL_TYPE, "id2label": labels, "text": {**tower, "dtype": "float32"}}
        (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.net.state_dict().items()}
        save_file(state, out / SINGLE, {"format": "pt"})
        hub.copy_tokenizer(model.folder, out)
        write_fitted(out, model.fitted)

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Any:
        encoded = tokenized(model.folder, model.net.text_tower.config, [list(rows.features.texts)], max_length)
        columns = table_fit.encode(rows.features.columns, model.fitted["columns"]).columns
        return Encoded(encoded.columns, encoded.padding, encoded.left, encoded.limit, columns)

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        return model.net(**inputs)

    def body(self, model: Loaded) -> Any:
        from torch import nn

        return nn.ModuleList([model.net.text_tower, model.net.table_tower, model.net.fusion])


def _network(tower: Any, outputs: int, fitted: Any, dropout: float | None) -> Any:
    """Float32, in evaluation mode; what is drawn follows from torch's seed."""
    from tunemerge.tasks.nets.tables import table_mlp

    if getattr(tower, "pooler", None) is not None:
        tower.pooler = None  # nothing reads it
    columns = table_mlp(_WIDTH, fitted, width=_WIDTH, dropout=0.1 if dropout is None else dropout)
    return _module()(tower, columns, outputs).float().eval()


@cache
def _module() -> Any:
    """The class; made when it is first needed, for torch takes seconds to import."""
    import torch
    from torch import nn

    class TextTable(nn.Module):
        """Tokens (batch, length) with their mask, `numbers` (batch, k) float32 and `categories` (batch, m) int64 to
        (batch, outputs)."""

        def __init__(self, tower: Any, columns: Any, outputs: int) -> None:
            super().__init__()
            columns.head = nn.Identity()
            self.text_tower, self.table_tower = tower, columns
            self.fusion = nn.Linear(tower.config.hidden_size + _WIDTH, _WIDTH)
            self.head = nn.Linear(_WIDTH, outputs)

        def forward(self, numbers: Any, categories: Any, attention_mask: Any, **tokens: Any) -> Any:
            states = self.text_tower(attention_mask=attention_mask, **tokens).last_hidden_state.float()
            mask = attention_mask[:, :, None].to(states.dtype)
            text = (states * mask).sum(1) / mask.sum(1)
            both = torch.cat([text, self.table_tower(numbers, categories).float()], dim=1)
            return self.head(torch.relu(self.fusion(both)))

    return TextTable


def _with_outputs(net: Any, found: Sequence[str], spec: Spec, folder: Path) -> Any:
    """The network with the outputs of `spec`'s labels, in their order. UsageError where it lacks one."""
    import torch
    from torch import nn

    for label in spec.labels:
        if label not in found:
            near = nearest(label, list(found))
            raise UsageError(f"{folder}: its outputs are {listed(found)}, without {label!r}{near}")
    rows = torch.tensor([list(found).index(label) for label in spec.labels])
    head = nn.Linear(net.head.in_features, len(rows))
    with torch.no_grad():
        head.weight.copy_(net.head.weight[rows])
        head.bias.copy_(net.head.bias[rows])
    net.head = head
    return net


def _columns_of(rows: Rows) -> Rows:
    return replace(rows, features=rows.features.columns)


def _texts_of(rows: Rows) -> Rows:
    return replace(rows, features=rows.features.texts)


def on_columns(control: Control) -> Control:
    """A simple model of tables, on the columns alone."""
    return lambda spec, train, rows, seed: control(spec, _columns_of(train), _columns_of(rows), seed)


def on_texts(control: Control) -> Control:
    """A simple model of texts, on the text alone."""
    return lambda spec, train, rows, seed: control(spec, _texts_of(train), _texts_of(rows), seed)


def on_both(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    """Logistic regression for classes, else ridge regression, on words beside columns."""
    words = word_controls.words(_texts_of(train), _texts_of(rows))
    return table_controls.linear_beside(spec, _columns_of(train), _columns_of(rows), words)
