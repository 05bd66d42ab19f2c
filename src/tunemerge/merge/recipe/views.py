"""The models of a document side by side: each one's tensors under the names that the output will have.

One model may have been saved with its encoder's prefix (`bert.encoder...`) and another without, and a model whose
head shares its weights with the embedding has no tensor for the head: here they meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.layout import Layout, find_layout
from tunemerge.checkpoint.match import common_prefix
from tunemerge.checkpoint.naming import is_word_head, is_word_table
from tunemerge.checkpoint.source import Model


@dataclass(frozen=True)
class View:
    """One model. `index` is its place among the plan's models, `own` maps names in the output to its own names.

    `stored` are the tensors as its files have them: adapters and common vocabularies may widen formats. `tied` maps a
    head that it lacks to the embedding that serves as one.
    """

    index: int
    label: str
    tensors: Mapping[str, TensorInfo]
    stored: Mapping[str, TensorInfo]
    own: Mapping[str, str]
    tied: Mapping[str, str]

    @cached_property
    def layout(self) -> Layout:
        """Of its tensors under the names of the output."""
        return find_layout(sorted(self.own))

    def info(self, name: str) -> TensorInfo | None:
        """The tensor that stands for the output's tensor `name`, or None."""
        own = self.find(name)
        return None if own is None else self.tensors[own]

    @property
    def every(self) -> dict[str, str]:
        """All names under which `find` finds something, and what it finds."""
        return {**self.tied, **self.own}

    def dtype(self, name: str) -> str:
        """The format in which the model's files have a tensor that `find` finds."""
        own = self.find(name) or ""
        return self.stored.get(own, self.tensors[own]).dtype

    def find(self, name: str) -> str | None:
        """The model's own name of it."""
        return self.own.get(name) or self.tied.get(name)


def make_views(models: Sequence[tuple[Model, Mapping[str, TensorInfo], Mapping[str, Any]]], donor: int) -> list[View]:
    """The models in order, each with its tensors as they are stored, and its config; names are those of the model
    number `donor`."""
    renamed = [_renamed(models[donor][0].tensors.keys(), model.tensors.keys()) for model, _, _ in models]
    heads = sorted({name for own in renamed for name in own if name.endswith(".weight") and is_word_head(name)})
    return [
        View(i, m.label, m.tensors, stored, own, _ties(heads, own, m.tensors, config))
        for i, ((m, stored, config), own) in enumerate(zip(models, renamed, strict=True))
    ]


def _renamed(expected: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Names as expected -> names as they are: the same, or longer or shorter by a prefix that nearly all share."""
    ours, theirs = set(expected), set(names)
    if 2 * len(ours & theirs) >= min(len(ours), len(theirs)):
        return {name: name for name in theirs}
    longer = common_prefix(ours, theirs)
    if longer is not None:
        return {name if name in ours else longer + name: name for name in theirs}
    shorter = common_prefix(theirs, ours)
    if shorter is not None:
        return {name.removeprefix(shorter): name for name in theirs}
    return {name: name for name in theirs}


def _ties(
    heads: Iterable[str], own: Mapping[str, str], infos: Mapping[str, TensorInfo], config: Mapping[str, Any]
) -> dict[str, str]:
    """The head that a model lacks because its config says that the embedding is the head."""
    missing = [head for head in heads if head not in own]
    text = config.get("text_config")
    said = [c["tie_word_embeddings"] for c in (config, text) if isinstance(c, Mapping) and "tie_word_embeddings" in c]
    if not missing or (said and not any(said)):
        return {}
    embeddings = [theirs for name, theirs in sorted(own.items()) if is_word_table(name)]
    if len({infos[name].shape for name in embeddings}) != 1:
        return {}
    return dict.fromkeys(missing, embeddings[0])
