"""Captions made of label names, as the text tower of a CLIP reads them, and images that are scored over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunemerge.errors import UsageError
from tunemerge.registry import listed
from tunemerge.tasks import hub
from tunemerge.tasks.images import Images
from tunemerge.tasks.rows import Rows
from tunemerge.tasks.several import HEAD, SeveralHeads, head_numbers, read_as, specs_of
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, Loaded
from tunemerge.tasks.text_model import longest_row

LABEL = "{label}"
_TRUE_END = 2  # older configs say 2 whatever the tokenizer: the tower then reads a caption at its highest token


def captions_of(spec: Spec) -> list[str]:
    """One a label, in their order."""
    return [spec.options["caption"].replace(LABEL, label) for label in spec.labels]


@dataclass(frozen=True)
class Tokens:
    """Captions as tokens, int64 (captions, longest). `unknown`: those with a word that the tokenizer lacks; `cut`:
    those that were too long."""

    ids: np.ndarray
    mask: np.ndarray
    unknown: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()

    def inputs(self) -> dict[str, np.ndarray]:
        return {"input_ids": self.ids, "attention_mask": self.mask}


def tokens_of(folder: Path, captions: Sequence[str], max_length: int) -> Tokens:
    """By the tokenizer of a CLIP's folder. UsageError where the tower would not read a caption at its end, or two
    captions are the same to it."""
    tokenizer, config = hub.tokenizer_of(folder), hub.read_config(folder).text_config
    limit = longest_row(tokenizer, config, max_length)
    rows = tokenizer(list(captions), truncation=True, max_length=limit)["input_ids"]
    whole = tokenizer(list(captions))["input_ids"]
    end = config.eos_token_id
    for caption, row in zip(captions, rows, strict=True):
        read_at = row.index(max(row)) if end == _TRUE_END else row.index(end) if end in row else 0
        if read_at != len(row) - 1:
            raise UsageError(
                f"{folder}: {caption!r} is read at its token {read_at + 1} of {len(row)}, not at its end: text_config "
                f"says eos_token_id {end}, and the tokenizer ends captions with {row[-1]}. Make them agree"
            )
    first: dict[tuple[int, ...], str] = {}
    for caption, row in zip(captions, rows, strict=True):
        if tuple(row) in first:
            raise UsageError(
                f"{folder}: {first[tuple(row)]!r} and {caption!r} are the same tokens, so no image could be told to be "
                "one of them: rename labels with `labels:` to words that the tokenizer knows"
            )
        first[tuple(row)] = caption
    unknown = tokenizer.unk_token_id
    strange = [c for c, row in zip(captions, rows, strict=True) if unknown != end and unknown in row]
    cut = [c for c, row, all_of in zip(captions, rows, whole, strict=True) if len(row) < len(all_of)]
    longest = max(map(len, rows))
    ids: np.ndarray = np.full((len(rows), longest), tokenizer.pad_token_id, np.int64)
    mask: np.ndarray = np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return Tokens(ids, mask, tuple(strange), tuple(cut))


@dataclass(frozen=True)
class CaptionedImages:
    """Images, and the captions that all of them are scored over: every batch has all captions. `head`: where rows are
    of several tasks, the number of each row's, int64 (n,)."""

    images: Images
    captions: Tokens
    head: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        return self.images.lengths

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Sequence[int] | np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        head = {} if self.head is None else {HEAD: self.head[np.asarray(rows)]}
        return {**self.images.batch(rows), **self.captions.inputs(), **head}


class SeveralCaptions(SeveralHeads):
    """Rows of tasks with different labels in one tuning: every image goes through the model once, beside the captions
    of all these tasks, and is judged over those of its own. There are no heads to keep apart."""

    metric = "accuracy"
    adapter_task = "FEATURE_EXTRACTION"
    head_names = ()

    def initialise(
        self, folder: Path, out: Path, spec: Spec, seed: int, dropout: float | None, fitted: Sequence[Any]
    ) -> None:
        """The model of a folder as it is: it answers any captions."""
        first = specs_of(spec)[0]
        TASKS[first.kind].initialise(folder, out, first, seed, dropout)

    def load(self, folder: Path, spec: Spec, dropout: float | None = None) -> Loaded:
        first = specs_of(spec)[0]
        return Loaded(TASKS[first.kind].load(folder, first, dropout).net, spec, folder)

    def save(self, model: Loaded, out: Path) -> None:
        first = specs_of(model.spec)[0]
        TASKS[first.kind].save(read_as(model, first), out)

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> CaptionedImages:
        captions = tokens_of(model.folder, _captions(model.spec), max_length)
        own, parts = list[np.ndarray](), list[Images]()
        for one, rows_of_one, part in self.parts(model, rows):
            images = replace(part, features=np.stack(part.features))
            encoded: Any = TASKS[one.spec.kind].encode(one, images, max_length)
            parts.append(encoded.images)
            own.append(rows_of_one)
        place = np.argsort(np.concatenate(own))
        pixels = np.concatenate([images.pixels for images in parts])[place]
        return CaptionedImages(Images(pixels, parts[0].preprocessing), captions, head_numbers(rows))

    def forward(self, model: Loaded, inputs: Mapping[str, Any]) -> Any:
        """(batch, captions of all tasks)."""
        first = specs_of(model.spec)[0]
        return TASKS[first.kind].forward(model, {name: value for name, value in inputs.items() if name != HEAD})

    def columns(self, model: Loaded, spec: Spec) -> list[int]:
        place = {caption: number for number, caption in enumerate(_captions(model.spec))}
        return [place[caption] for caption in captions_of(spec)]


def _captions(spec: Spec) -> list[str]:
    """Of all tasks, each once."""
    return list(dict.fromkeys(caption for one in specs_of(spec) for caption in captions_of(one)))


def told(tokens: Tokens, captions: Sequence[str]) -> str:
    """The captions, for a person."""
    longest = tokens.ids.shape[1]
    return (
        f"an image is scored over {len(captions)} captions of up to {longest} tokens: {listed(map(repr, captions), 4)}"
    )
