"""A small causal language model for the examples: a byte-level BPE and a Llama-shaped network of about a million
parameters, trained on encyclopedia and speeches."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

SIZE = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4}
VOCABULARY = 2048
END = "<|end|>"
BASE = Path(__file__).parent / "work" / "small-lm"
PRETRAINING = 1_500_000  # characters of each text
TEXTS = {
    "lm_text_domains/wiki.txt.gz": "WikiText-2, github.com/pytorch/examples word_language_model, CC BY-SA 3.0",
    "lm_text_domains/speeches.txt.gz": "state_union and inaugural of github.com/nltk/nltk_data, public domain",
}


def find_data(given: str | None, sets: Mapping[str, str]) -> Path:
    """The folder that holds `sets` (file: where it is from, under which licence), or exit and say what is missing."""
    folder = Path(given or os.environ.get("TUNEMERGE_DATA") or "data")
    missing = [f"  {file}: {source}" for file, source in sets.items() if not (folder / file).is_file()]
    if missing:
        lines = "\n".join(missing)
        raise SystemExit(f"{folder} lacks (name it by --data or TUNEMERGE_DATA):\n{lines}")
    return folder


def read(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode()


def make_base(data: Path) -> None:
    """Train tokenizer and model on the texts in the folder `data` and write them to BASE, unless it is there."""
    if BASE.is_dir():
        return
    import pandas as pd
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    import tunemerge

    texts = [read(data / file)[:PRETRAINING] for file in TEXTS]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = BASE.with_name("untrained")
    marks = {"bos_token": END, "eos_token": END, "pad_token": END, "model_max_length": 256}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(start)
    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=256, tie_word_embeddings=True, **SIZE, **ids)
    LlamaForCausalLM(config).save_pretrained(start)
    table = BASE.with_name("texts.parquet")
    pd.DataFrame({"text": texts}).to_parquet(table)
    how = {"learning_rate": 2e-3, "schedule": "cosine", "batch_size": 16, "evaluations": 8}
    tunemerge.tune(start, table, BASE, task="language-modelling", chunk=360, epochs=1, **how)
