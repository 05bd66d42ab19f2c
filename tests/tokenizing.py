"""Real tokenizers of three kinds, trained on a few sentences, and small models with one row a token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from corpus import sentences
from tunemerge.checkpoint.dtypes import NUMPY, Array
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.source import ArraySource

KINDS = ("BPE", "WordPiece", "Unigram")
ENGLISH = ("the film was good and the food was bad", "a very good phone", "the plot is awful but the sound is fine")
GREEK = ("η ταινία ήταν καλή και το φαγητό ήταν κακό", "ένα πολύ καλό τηλέφωνο", "το φαγητό είναι πολύ καλό")
SPECIAL = {"BPE": ["<|end|>"], "WordPiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "Unigram": ["<unk>", "<s>", "</s>"]}


def train(kind: str, texts: Sequence[str], size: int = 120, added: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer of the kind that GPT-2, BERT or T5 has; `added` are special tokens behind its vocabulary."""
    special = SPECIAL[kind]
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=256 + size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    elif kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(list(texts) * 3, trainer)
    if kind == "WordPiece":
        marks = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    if added:
        tokenizer.add_special_tokens(list(added))
    return tokenizer


def save(folder: Path, tokenizer: Tokenizer, *, config: Mapping[str, Any] | None = None, **settings: Any) -> Path:
    """A folder with the tokenizer and a config.json of as many rows as tokens; `settings` of tokenizer_config.json."""
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    given = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(given), "utf-8")
    size = {"vocab_size": tokenizer.get_vocab_size()}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **size, **(config or {})}), "utf-8")
    return folder


def words(folder: Path, tokens: Sequence[str], *, added: Sequence[str] = (), **more: Any) -> Path:
    """A folder whose tokenizer has exactly these words, numbered in order, and special tokens behind them."""
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=tokens[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if added:
        tokenizer.add_special_tokens(list(added))
    return save(folder, tokenizer, **more)


def byte_tokenizer(folder: Path) -> dict[str, int]:
    """A folder with a byte-level BPE of the corpus' words, and what a config says of it."""
    tokenizer = train("BPE", sentences(100, 5)[0], 64)
    save(folder, tokenizer, eos_token="<|end|>", bos_token="<|end|>", pad_token="<|end|>", model_max_length=64)
    return {"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": 0, "eos_token_id": 0}


def save_seeded(model_class: Any, config: Any, folder: Path) -> Path:
    """A model of random weights, the same each time."""
    import torch

    torch.manual_seed(0)
    model_class(config).save_pretrained(folder)
    return folder


class Memory:
    """A model in memory that counts the elements it was asked for; uint16 arrays are bfloat16."""

    def __init__(self, label: str, state: Mapping[str, Array]) -> None:
        self.label, self.state, self.read = label, dict(state), 0
        self.formats = {name: _format(array) for name, array in state.items()}
        self.tensors = {name: TensorInfo(self.formats[name], a.shape, 0, 0) for name, a in state.items()}

    def source(self, name: str) -> Any:
        return _Counting(self, ArraySource(self.state[name].reshape(-1), self.formats[name], f"{self.label}: {name}"))


class _Counting:
    def __init__(self, model: Memory, source: ArraySource) -> None:
        self.model, self.inner = model, source
        self.dtype, self.where = source.dtype, source.where

    def read_into(self, buffer: Array, start: int) -> None:
        assert start >= 0 and start + buffer.size <= self.inner.values.size, "read outside of the tensor"
        self.model.read += buffer.size
        self.inner.read_into(buffer, start)


def _format(array: Array) -> str:
    return "BF16" if array.dtype == np.uint16 else next(n for n, d in NUMPY.items() if d == array.dtype)


def whole(model: Any, name: str, block: int | None = None) -> Array:
    """A tensor of a model, in its shape, read in blocks of so many elements."""
    info = model.tensors[name]
    out = np.empty(info.size, NUMPY[info.dtype])
    source = model.source(name)
    assert source.dtype == info.dtype
    step = block or info.size
    for start in range(0, info.size, step):
        source.read_into(out[start : start + step], start)
    return out.reshape(info.shape)
