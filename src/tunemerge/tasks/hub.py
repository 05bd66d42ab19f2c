"""The few things every use of transformers needs: silence, no network, no code of the model's own, tokenizer files."""

from __future__ import annotations

import gc
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunemerge.errors import CheckpointError, UsageError
from tunemerge.store.digest import digest_file, digest_json

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "spm.model",
    "chat_template.jinja",
)
_TOKENIZED_BY = (*TOKENIZER_FILES, "config.json")
_TOKENIZERS = 4  # in memory: a study's models mostly share one
_tokenizers: dict[str, Any] = {}


def prepare(params: Mapping[str, Any]) -> None:
    """What every step that runs a model does once a process, whatever its parameters: import torch and transformers."""
    _imports()


@lru_cache(maxsize=1)
def _imports() -> None:
    """The collector need not walk through what is being imported (0.8 of 3.1 s), nor through it later (0.25 s each
    time, several times a tuning)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer  # noqa: F401
    finally:
        if collects:
            gc.enable()
    gc.freeze()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, load reports or warnings from transformers inside the block; its settings are restored."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: what the key of a step says, whatever process runs it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def read_config(folder: Path) -> Any:
    """The model's config.json as transformers understands it; a model's own code is never run."""
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; a model is a folder with config.json and model.safetensors")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as fault:
        raise CheckpointError(f"{folder / 'config.json'}: transformers cannot use it: {fault}") from fault


def tokenizer_of(folder: Path) -> Any:
    """The fast tokenizer saved with the model; one object for all folders with the same files: leave it as it is."""
    if not (folder / "tokenizer.json").is_file():  # made from what may have any name
        return _load_tokenizer(folder)
    key = digest_json({n: digest_file(folder / n) for n in _TOKENIZED_BY if (folder / n).is_file()})
    if key not in _tokenizers:
        found = _load_tokenizer(folder)
        while len(_tokenizers) >= _TOKENIZERS:
            del _tokenizers[next(iter(_tokenizers))]
        _tokenizers[key] = found
    return _tokenizers[key]


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (ValueError, KeyError, OSError, TypeError, AttributeError) as fault:
            raise UsageError(
                f"{folder}: no tokenizer can be loaded from it ({fault}); "
                f"the folder needs tokenizer.json or what its tokenizer is made from"
            ) from fault
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise UsageError(f"{folder / 'tokenizer_config.json'}: no pad, eos or unk token: rows cannot be padded")
    return tokenizer


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy the tokenizer's files byte for byte."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


def label_names(config: Any) -> list[str]:
    """The labels of a config in index order."""
    return [config.id2label[i] for i in sorted(config.id2label)]


def set_dropout(config: Any, dropout: float | None, where: Path) -> None:
    """Set every dropout probability that the config names; None leaves them. UsageError where it names none."""
    if dropout is None:
        return
    names = [
        name
        for name, value in config.to_dict().items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and _is_dropout(name)
    ]
    if not names and dropout:
        raise UsageError(
            f"{where / 'config.json'}: {config.model_type} names no dropout that could be set; leave dropout out"
        )
    for name in names:
        setattr(config, name, dropout)


def _is_dropout(name: str) -> bool:
    return "dropout" in name or name.endswith("_pdrop")


def same_labels(found: Sequence[str], expected: Sequence[str], folder: Path) -> None:
    """Refuse a model whose outputs are not exactly these labels in this order."""
    if list(found) != list(expected):
        raise UsageError(
            f"{folder / 'config.json'}: id2label is {', '.join(found)}; expected {', '.join(expected)} in this order. "
            "Give the model a head for these labels first (operation init)"
        )
