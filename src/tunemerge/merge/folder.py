"""Everything of a model folder but the weights: config, tokenizer, and how the merge came about."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.dtypes import TORCH_NAMES
from tunemerge.checkpoint.heads import RECORD as HEADS
from tunemerge.checkpoint.model import Checkpoint, inside, write_json

RECORD = "tunemerge_merge.json"
"""Says which merge made a folder; a folder without it is never replaced."""

CONFIG, GENERATION = "config.json", "generation_config.json"
_TOKENIZER = (
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)
_OTHER = (GENERATION, "*processor_config.json", "tunemerge_fitted.json", HEADS)


def copy_tokenizer(model: Checkpoint, folder: Path) -> None:
    """The tokenizer's files and its chat template."""
    _copy(model, _matching(model.folder, _TOKENIZER), folder)


def copy_others(model: Checkpoint, folder: Path) -> None:
    """What else belongs to a model: generation settings, processors of images and sounds."""
    _copy(model, _matching(model.folder, _OTHER), folder)


def copied_files(folder: Path) -> list[str]:
    """Names of the files of a model folder, its weights apart, that may go into a merge."""
    config = [CONFIG] if (folder / CONFIG).exists() else []
    return [*config, *_matching(folder, (*_TOKENIZER, *_OTHER))]


def without_code(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config.json that points at no code: Python files are not copied, and a stranger's are not run."""
    return {key: value for key, value in config.items() if key != "auto_map"}


def with_dtype(config: Mapping[str, Any], out_dtype: str | None) -> dict[str, Any]:
    """A copy of a config.json that says `out_dtype` (a safetensors name); None leaves what it says."""
    if out_dtype is None:
        return dict(config)
    name = next(n for n, d in TORCH_NAMES.items() if d == out_dtype)
    keys = [key for key in ("dtype", "torch_dtype") if key in config] or ["dtype"]
    return {**config, **dict.fromkeys(keys, name)}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Leave the account of a merge in its folder."""
    write_json(folder / RECORD, record)


def _matching(folder: Path, patterns: Iterable[str]) -> list[str]:
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(p.name for p in found if p.is_file() and not p.name.endswith((".safetensors", ".bin", ".py")))


def _copy(model: Checkpoint, names: Iterable[str], folder: Path) -> None:
    if model.has_config:
        for name in names:
            shutil.copyfile(inside(model.folder, name), folder / name)
