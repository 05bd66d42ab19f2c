"""The tokenizer's files in the output's folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import inside, read_json, write_json
from tunemerge.merge.vocabulary import chat
from tunemerge.merge.vocabulary.tokenizer import CONFIG, FILE, Tokenizer

ADDED = "added_tokens.json"
_SHARED = (CONFIG, "special_tokens_map.json")
_OWN = (FILE, ADDED, "vocab.*", "merges.txt", "*.model", "*.tiktoken")
_CHAT = ("chat_template*",)


def write_tokenizer(source: Path, tokenizer: Tokenizer | None, template: str | None, folder: Path) -> None:
    """Write a tokenizer into `folder`: that of the model folder `source`, or `tokenizer` where that is a new one.

    Files are copied as bytes where nothing in them changes. With a new tokenizer tokenizer.json is written,
    added_tokens.json and the added_tokens_decoder of tokenizer_config.json follow where they exist, and the files of
    slow tokenizers (vocab.txt, merges.txt, tokenizer.model), which would say something else, are left out. `template`
    replaces every chat template. Does nothing where `source` has no tokenizer.
    """
    new = tokenizer is not None and tokenizer.new
    names = [path.name for pattern in (*_SHARED, *_OWN, *_CHAT) for path in source.glob(pattern) if path.is_file()]
    if not names:
        return
    left_out = {*(_names(source, _OWN) if new else ()), *(_names(source, _CHAT) if template else ())}
    for name in sorted({*names} - left_out):
        shutil.copyfile(inside(source, name), folder / name)
    if tokenizer is not None and new:
        write_json(folder / FILE, tokenizer.data)
        if ADDED in names:
            write_json(folder / ADDED, {entry["content"]: entry["id"] for entry in tokenizer.added})
    if template:
        (folder / chat.FILE).write_bytes(template.encode("utf-8"))
    if CONFIG in names and (new or template):
        config = read_json(folder / CONFIG)
        changed = {key: value for key, value in config.items() if key != "chat_template" or not template}
        if tokenizer is not None and new and "added_tokens_decoder" in config:
            changed["added_tokens_decoder"] = _decoder(tokenizer)
        if changed != config:
            write_json(folder / CONFIG, changed)


def _names(folder: Path, patterns: tuple[str, ...]) -> set[str]:
    return {path.name for pattern in patterns for path in folder.glob(pattern)}


def _decoder(tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    return {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in tokenizer.added}
