"""The output's vocabulary, planned: which tokens, how many rows, and where each model has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import inside, read_json
from tunemerge.checkpoint.source import Model
from tunemerge.findings import Finding
from tunemerge.merge.vocabulary.apply import remap_models
from tunemerge.merge.vocabulary.config import changed_keys
from tunemerge.merge.vocabulary.rows import Flags, Ints, Overrides
from tunemerge.merge.vocabulary.tensors import config_size
from tunemerge.merge.vocabulary.tokenizer import Tokenizer
from tunemerge.merge.vocabulary.write import write_tokenizer

CONFIGS = ("config.json", "generation_config.json")


@dataclass(frozen=True)
class Rows:
    """The rows of the output's embeddings.

    `maps` (n, rows) is each model's own row or -1, `is_token` (rows,) tells tokens from padding, `overrides` are the
    rules for single tokens.
    """

    maps: Ints
    is_token: Flags
    overrides: Overrides

    @property
    def count(self) -> int:
        return self.is_token.size


@dataclass(frozen=True)
class Vocabulary:
    """A plan; no tensor is read before the models that `apply` returns are.

    `models` are the names of the models in order, `base` one of them or None, `folders` and `tokenizers` theirs (and
    those of other models that give the tokenizer), `sizes` the vocab_size in the models' config.json or None, `tied`
    whether a model without an output head has its input embeddings for one.
    `donor` is the model whose tokenizer files the output's follow. `tokenizer` and `rows` are the output's; None where
    the recipe asks for no tokenizer: files are copied and embeddings stay as they are. `template` is a chat template
    to write, None keeps the tokenizer's own. `findings` are warnings and notes.
    """

    models: tuple[str, ...]
    base: str | None
    folders: Mapping[str, Path]
    tokenizers: Mapping[str, Tokenizer]
    sizes: tuple[int | None, ...]
    tied: tuple[bool, ...]
    donor: str
    tokenizer: Tokenizer | None
    rows: Rows | None
    template: str | None
    findings: tuple[Finding, ...]

    def apply(self, models: Sequence[Model]) -> list[Model]:
        """Views of the models, in the order of `self.models`, whose vocabulary tensors have the output's rows.

        A model that needs no change is returned itself. Raises UsageError where a model has no tensor that fits its
        vocabulary, or has it in another width, or lacks a row that a rule names.
        """
        if len(models) != len(self.models):
            raise ValueError(f"{len(models)} models for a vocabulary of {len(self.models)}")
        if self.rows is None:
            return list(models)
        base = self.models.index(self.base) if self.base is not None else None
        rows = self.rows
        return remap_models(models, self.sizes, self.tied, rows.maps, base, rows.is_token, rows.overrides)

    def write(self, folder: Path) -> None:
        """Write the tokenizer's files and the chat template into an existing folder; nothing where it has none."""
        write_tokenizer(self.folders[self.donor], self.tokenizer, self.template, folder)

    def config_changes(self, model: str | None = None) -> dict[str, dict[str, Any]]:
        """What must change in the config files of `model` (default: the base, else the first), by file name.

        `{"config.json": {"vocab_size": 7, "eos_token_id": 3}, "generation_config.json": {...}}`: new values of keys,
        nested as in the file; `with_changes` applies them. Files without changes are left out. The numbers of special
        tokens are those of the model whose tokenizer it is, where its file has them.
        """
        if self.rows is None or self.tokenizer is None:
            return {}
        name = model or self.base or self.models[0]
        changes = {}
        for file in CONFIGS:
            config, guide = _read(self.folders[name], file), _read(self.folders[self.donor], file)
            old, guiding = self.tokenizers[name], self.tokenizers[self.donor]
            new = changed_keys(config, guide, old, guiding, self.tokenizer, config_size(config), self.rows.count)
            if new:
                changes[file] = new
        return changes


def _read(folder: Path, file: str) -> dict[str, Any]:
    return read_json(inside(folder, file)) if (folder / file).is_file() else {}
