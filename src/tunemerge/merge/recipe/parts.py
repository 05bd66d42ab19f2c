"""What a recipe says once it has been read: plain data, in the order of merging. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.findings import Finding
from tunemerge.merge.method import Method

Settings = Mapping[str, Any]
"""Checked parameters of one level of a recipe, as written: scalars, gradients, filters."""


@dataclass(frozen=True)
class ModelRef:
    """A model as a recipe names it: `path@revision+adapter@revision`; all but the path may be missing."""

    path: str
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None

    def __str__(self) -> str:
        whole = f"{self.path}@{self.revision}" if self.revision else self.path
        if self.adapter is None:
            return whole
        return f"{whole}+{self.adapter}" + (f"@{self.adapter_revision}" if self.adapter_revision else "")


@dataclass(frozen=True)
class Source:
    """One model of a slice. `layers` is the range [first, end) it gives; None: the model as a whole."""

    model: ModelRef
    layers: tuple[int, int] | None
    settings: Settings


@dataclass(frozen=True)
class Slice:
    """A stretch of the output's layers. `sources` are in the order of merging; `base` is None where none is used.

    For methods of deltas the base is not among the sources; where it is itself the first of the models (slerp), it
    is the first source.
    """

    sources: tuple[Source, ...]
    base: Source | None
    settings: Settings

    @property
    def everyone(self) -> tuple[Source, ...]:
        return (*self.sources, *([self.base] if self.base else []))


@dataclass(frozen=True)
class Module:
    """A sub-model by the prefix of its tensors' names; `name` "" is the whole model. One slice without ranges, or
    slices with ranges, never both."""

    name: str
    slices: tuple[Slice, ...]
    settings: Settings


@dataclass(frozen=True)
class TokenRows:
    """Where the embedding of one token comes from: a model (its row of `token`, or number `token_id`), or zero.

    Without `zero` and `model` it is the usual choice. `force` replaces the row of every model, not only of those
    that lack the token.
    """

    token: str
    model: ModelRef | None = None
    model_token: str | None = None
    model_token_id: int | None = None
    zero: bool = False
    force: bool = False


@dataclass(frozen=True)
class TokenizerPart:
    """`source`: "union", "base" or a model; None: the tokenizer's files are copied and embeddings stay as they are.

    `chat_template`: "auto", the name of a template, or the template itself; None: the tokenizer's own.
    """

    source: str | ModelRef | None = None
    tokens: tuple[TokenRows, ...] = ()
    pad_to_multiple_of: int | None = None
    chat_template: str | None = None


@dataclass(frozen=True)
class Document:
    """One merge. `out_dtype` is a safetensors name, or None for the dtypes of the inputs.

    `average` are parts of names of tensors that are averaged whatever the method. `data` is the document itself,
    `line` where it begins.
    """

    name: str | None
    method: Method
    base: ModelRef | None
    modules: tuple[Module, ...]
    settings: Settings
    out_dtype: str | None
    tokenizer: TokenizerPart
    average: tuple[str, ...]
    data: Mapping[str, Any]
    line: int

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model it reads, once each, in the order in which they are written; the base last if nowhere listed."""
        return tuple(dict.fromkeys(self._models()))

    def _models(self) -> Iterator[ModelRef]:
        for module in self.modules:
            for part in module.slices:
                yield from (source.model for source in part.everyone)
        if self.base is not None:
            yield self.base
        if isinstance(self.tokenizer.source, ModelRef):
            yield self.tokenizer.source
        yield from (rows.model for rows in self.tokenizer.tokens if rows.model is not None)


@dataclass(frozen=True)
class Recipe:
    """Documents in an order in which they can be run: each after those it names. The last one is the output.

    `path` is the file it came from, `text` its content, `warnings` what has no effect.
    """

    path: Path
    text: str
    documents: tuple[Document, ...]
    warnings: tuple[Finding, ...]

    @property
    def output(self) -> Document:
        return self.documents[-1]

    @property
    def names(self) -> dict[str, Document]:
        """The intermediates by name."""
        return {d.name: d for d in self.documents if d.name is not None}

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that must be there before the recipe runs: no intermediates."""
        every = (model for document in self.documents for model in document.models)
        return tuple(dict.fromkeys(model for model in every if model.path not in self.names))
