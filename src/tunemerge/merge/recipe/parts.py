"""What a recipe says once it has been read: plain data, in the order of merging. Nothing here opens a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunemerge.findings import Finding
from tunemerge.merge.lines import DepthSchedule
from tunemerge.merge.method import Method
from tunemerge.merge.vocabulary.request import TokenizerRequest

if TYPE_CHECKING:
    from tunemerge.merge.align.request import AlignRequest

Settings = Mapping[str, Any]
"""Checked parameters of one level of a recipe, as written: scalars, gradients, filters."""


@dataclass(frozen=True)
class Place:
    """Something that must be on this disk, as a recipe names it; "groups" is a file of permutation groups."""

    name: str
    revision: str | None = None
    kind: Literal["model", "adapter", "groups"] = "model"

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class ModelRef:
    """A model as a recipe names it: `path@revision+adapter@revision`; all but the path may be missing."""

    path: str
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """The model, and its adapter where it has one."""
        whole = Place(self.path, self.revision)
        return (whole,) if self.adapter is None else (whole, Place(self.adapter, self.adapter_revision, "adapter"))

    def __str__(self) -> str:
        return "+".join(map(str, self.places))


@dataclass(frozen=True)
class Member:
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

    sources: tuple[Member, ...]
    base: Member | None
    settings: Settings

    @property
    def everyone(self) -> tuple[Member, ...]:
        return (*self.sources, *([self.base] if self.base else []))


@dataclass(frozen=True)
class Module:
    """A sub-model by the prefix of its tensors' names; `name` "" is the whole model. One slice without ranges, or
    slices with ranges, never both."""

    name: str
    slices: tuple[Slice, ...]
    settings: Settings


@dataclass(frozen=True)
class Document:
    """One merge. `out_dtype` is a safetensors name, or None for the dtypes of the inputs.

    `average` are parts of names of tensors that are averaged whatever the method. `lines` scales task vectors by depth,
    which is a gradient's. `tokenizer_models` are those that
    `tokenizer` names. `groups` is the file that `align` asks for. `data` is the document itself, `names` the models in
    it as they are written (their repr), `line` where it begins.
    """

    name: str | None
    method: Method
    base: ModelRef | None
    modules: tuple[Module, ...]
    settings: Settings
    out_dtype: str | None
    tokenizer: TokenizerRequest
    tokenizer_models: tuple[ModelRef, ...]
    average: tuple[str, ...]
    lines: DepthSchedule | None
    align: AlignRequest | None
    groups: Place | None
    data: Mapping[str, Any]
    names: Mapping[str, ModelRef]
    line: int

    @property
    def merged(self) -> tuple[ModelRef, ...]:
        """The models that are merged, the base among them, once each, in the order of merging."""
        return tuple(dict.fromkeys(s.model for m in self.modules for part in m.slices for s in part.everyone))

    @property
    def donor(self) -> ModelRef:
        """The model that gives names, config and tokenizer: the base, or the first one."""
        return self.base or self.merged[0]

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model it reads: those that are merged, and those that give a config, a tokenizer or single rows."""
        return tuple(dict.fromkeys([*self.merged, *([self.base] if self.base else []), *self.tokenizer_models]))

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything it reads, models that other documents make among it."""
        return (*(place for ref in self.models for place in ref.places), *([self.groups] if self.groups else []))


@dataclass(frozen=True)
class Recipe:
    """Documents in an order in which they can be run: each after those it names. The last one is the output.

    `path` is the file it came from, `text` its content, `findings` what was found while reading it.
    """

    path: Path
    text: str
    documents: tuple[Document, ...]
    findings: tuple[Finding, ...]

    @property
    def output(self) -> Document:
        return self.documents[-1]

    @property
    def names(self) -> dict[str, Document]:
        """The intermediates by name."""
        return {d.name: d for d in self.documents if d.name is not None}

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that must be there before the recipe runs: no intermediates."""
        every = (place for document in self.documents for place in document.places)
        return tuple(dict.fromkeys(p for p in every if p.kind != "model" or p.name not in self.names))
