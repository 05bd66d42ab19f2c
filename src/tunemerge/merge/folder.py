"""Everything of a model folder but the weights: config, tokenizer, and how the merge came about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.dtypes import TORCH_NAMES
from tunemerge.checkpoint.model import Checkpoint, inside, read_json

RECORD = "tunemerge_merge.json"
"""Says which merge made a folder; a folder without it is never replaced."""

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
_OTHER = ("generation_config.json", "*processor_config.json")


def copy_companions(model: Checkpoint, tokenizer: Checkpoint, out_dtype: str | None, folder: Path) -> None:
    """Copy `model`'s config and `tokenizer`'s files into `folder`; the config's dtype follows `out_dtype`.

    Files are copied as bytes, never run; links that leave a model's folder are refused (CheckpointError).
    """
    _copy(model, _OTHER, folder)
    _copy(tokenizer, _TOKENIZER, folder)
    if model.has_config:
        config = read_json(inside(model.folder, "config.json"))
        if out_dtype is not None:
            name = next(n for n, d in TORCH_NAMES.items() if d == out_dtype)
            keys = [key for key in ("dtype", "torch_dtype") if key in config] or ["dtype"]
            config |= dict.fromkeys(keys, name)
        write_json(folder / "config.json", config)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Leave the account of a merge in its folder."""
    write_json(folder / RECORD, record)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _copy(model: Checkpoint, patterns: tuple[str, ...], folder: Path) -> None:
    if not model.has_config:
        return
    for pattern in patterns:
        for path in sorted(model.folder.glob(pattern)):
            if path.is_file() and not path.name.endswith((".safetensors", ".bin", ".py")):
                shutil.copyfile(inside(model.folder, path.name), folder / path.name)
