"""Models small enough for tests: random weights, real architectures."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path


def tiny_encoder(folder: Path, words: Sequence[str]) -> Path:
    """Write a BERT of 2 layers of 32 without a head to an empty `folder`, and a tokenizer that knows `words` and reads
    all others letter by letter; rows have up to 64 tokens."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    letters = string.ascii_lowercase
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(dict.fromkeys([*special, *words, *letters[1:], *(f"##{c}" for c in letters), "."]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder
