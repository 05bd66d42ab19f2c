"""A small multilingual BERT for the study beside this file: tokenizer and masked-word pretraining on tweets of eight
languages (the `train` split; the study uses the `test` split). Writes the folder `base`; minutes on one core."""

import os
import sys
from pathlib import Path

import pandas as pd
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

LANGUAGES = ("arabic", "english", "french", "german", "hindi", "italian", "portuguese", "spanish")
FILE = "sentiment_tweets_8_languages/umsab.csv.gz"
VOCABULARY, LENGTH, BATCH, EPOCHS, RATE = 8000, 48, 32, 10, 1e-3
OUT = Path(__file__).parent / "base"


def texts() -> list[str]:
    file = Path(os.environ.get("TUNEMERGE_DATA", "")) / FILE
    if "TUNEMERGE_DATA" not in os.environ or not file.is_file():
        sys.exit(f"missing: {FILE} in the folder that the environment variable TUNEMERGE_DATA names")
    table = pd.read_csv(file, keep_default_na=False)
    return table[(table["split"] == "train") & table["language"].isin(LANGUAGES)]["text"].tolist()


def tokenizer(tweets: list[str]) -> BertTokenizerFast:
    OUT.mkdir(exist_ok=True)
    pieces = BertWordPieceTokenizer(strip_accents=False, lowercase=True)
    pieces.train_from_iterator(tweets, vocab_size=VOCABULARY, min_frequency=2, show_progress=False)
    pieces.save_model(str(OUT))
    made = BertTokenizerFast(
        vocab=str(OUT / "vocab.txt"), model_max_length=LENGTH, do_lower_case=True, strip_accents=False
    )
    made.save_pretrained(OUT)
    return made


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tweets = texts()
    tokens = tokenizer(tweets)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    ids = [torch.tensor(tokens(t, truncation=True, max_length=LENGTH)["input_ids"]) for t in tweets]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    steps = EPOCHS * len(batches)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    for epoch in range(EPOCHS):
        total = 0.0
        for number in torch.randperm(len(batches)).tolist():
            rows = torch.nn.utils.rnn.pad_sequence([ids[i] for i in batches[number]], batch_first=True)
            mask = rows != tokens.pad_token_id
            special = torch.isin(rows, torch.tensor(tokens.all_special_ids))
            hidden = (torch.rand(rows.shape) < 0.15) & ~special
            seen = rows.masked_fill(hidden & (torch.rand(rows.shape) < 0.9), tokens.mask_token_id)
            with torch.autocast("cpu", torch.bfloat16):
                states = model.bert(seen, attention_mask=mask).last_hidden_state[hidden]
                loss = torch.nn.functional.cross_entropy(model.cls(states).float(), rows[hidden])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item()
        print(f"epoch {epoch + 1} of {EPOCHS}: masked-word loss {total / len(batches):.2f}", flush=True)
    model.bert.save_pretrained(OUT)


if __name__ == "__main__":
    main()
