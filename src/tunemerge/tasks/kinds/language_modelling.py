"""Language modelling: plain text, a causal language model, and how well it predicts every next token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tunemerge.data.plain_text import pieces
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks import hub
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.causal_model import CausalKind, encoded_rows, start_token
from tunemerge.tasks.ngrams import byte_ngrams
from tunemerge.tasks.rows import Rows, read_table, rows_from, texts
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded, Source
from tunemerge.tasks.text_model import longest_row

# Neighbouring pieces of one text are alike: so many of them are one unit.
_PASSAGE = 8
_ORDER = 6


class LanguageOptions(BaseModel):
    """Documents of plain text: a text file is one, or each row of a table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field("text", description="column of the text; of a text file it is called `text`", examples=["body"])
    chunk: int = Field(
        1000, ge=32, description="longer documents are cut, at ends of lines, into rows of at most as many characters; "
        "the rows of one document are one unit (of a lone one: each 8 neighbouring rows)", examples=[2000],
    )  # fmt: skip


def _byte_ngrams(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    size = rows.target
    return np.stack([byte_ngrams(train.features, rows.features, _ORDER), size, size], axis=1)


class LanguageModelling(CausalKind):
    """Rows have a `text`; a prediction is how likely a model finds it: nats, tokens, bytes."""

    name = "language-modelling"
    prediction = "likelihood"
    metric = "bits_per_byte"
    Options = LanguageOptions
    target = ()
    controls: ClassVar[Mapping[str, KindControl]] = {
        "byte_ngrams": KindControl(
            _byte_ngrams, f"How often up to {_ORDER} bytes follow each other in the training rows, no checkpoint."
        )
    }

    def source(self, options: LanguageOptions) -> Source:
        return Source({"text": options.text}, frozenset({"text"}))

    def unfold(self, table: pd.DataFrame, options: LanguageOptions) -> pd.DataFrame:
        """Long documents in pieces; `passage` says which belong together."""
        if options.text not in table or not (table[options.text].map(_length) > options.chunk).any():
            return table
        cut = table[options.text].map(lambda text: [p for p in pieces(text, options.chunk) if p.strip()] or [text])
        rows = table.assign(passage=np.arange(len(table)) + 1)
        rows[options.text] = cut
        rows = rows.explode(options.text)
        if len(table) == 1:
            rows["passage"] = np.arange(len(rows)) // _PASSAGE + 1
        return rows.reset_index(drop=True)

    def convert(self, table: pd.DataFrame, options: LanguageOptions, where: str) -> tuple[pd.DataFrame, list[Finding]]:
        text = table[options.text].astype(str)
        rows = pd.DataFrame({"text": text}, index=table.index)
        if "passage" in table:
            rows["unit"] = table["passage"]
        empty = table.index[text.str.strip() == ""]
        if empty.empty:
            return rows, []
        message = f"{len(empty)} rows have no text (data rows {listed((i + 1 for i in empty), 5)})"
        return rows, [error("empty-text", message, where, "delete these rows")]

    def spec(self, options: LanguageOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        return Spec(self.name)

    def preview(self, folder: Path, spec: Spec, rows: pd.DataFrame, max_length: int, where: str) -> list[Finding]:
        from tokenizers import Tokenizer

        if not (folder / "tokenizer.json").is_file():
            return []
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        cut = sum(len(found.ids) > max_length for found in tokenizer.encode_batch(list(rows["text"])))
        if not cut:
            return []
        text = f"{cut} of {len(rows)} rows have more than {max_length} tokens: what comes after them is not read"
        return [warning("rows-cut", text, where, "raise tuning.max_length, or lower `chunk`")]

    def texts(self, rows: pd.DataFrame) -> list[str]:
        return list(rows["text"])

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """Features are texts, the target their bytes."""
        table = read_table(paths, ["text"])
        found = texts(table, "text", paths)
        return rows_from(table, found, np.array([len(text.encode()) for text in found], np.float64))

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Encoded:
        """Every token but the first is predicted; before a row stands what begins a document. A row that is too long is
        cut, and only the bytes count that are read."""
        tokenizer = hub.tokenizer_of(model.folder)
        if not tokenizer.is_fast:
            raise UsageError(f"{model.folder}: {type(tokenizer).__name__} can't tell which bytes a token is: give the "
                             "model a fast tokenizer (tokenizer.json)")  # fmt: skip
        limit = longest_row(tokenizer, model.net.config, max_length)
        first = start_token(tokenizer)
        kept = limit - len(first)
        found = tokenizer(list(rows.features), add_special_tokens=False, return_offsets_mapping=True)
        tokens = [[*first, *ids[:kept]] for ids in found["input_ids"]]
        supervised = [[0] * bool(ids) + [1] * (len(ids) - 1) for ids in tokens]
        size = rows.target.copy()
        for row, (text, ends) in enumerate(zip(rows.features, found["offset_mapping"], strict=True)):
            read = text[: ends[kept - 1][1]] if len(ends) > kept else text
            unpredicted = text[: ends[0][1]] if ends and not first else ""
            size[row] = len(read.encode()) - len(unpredicted.encode())
        return encoded_rows(tokens, supervised, size, tokenizer.pad_token_id, limit)

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """Nats a token."""
        return METRICS["nll_per_token"].fn(rows.target, predictions, rows.weight)


def _length(text: Any) -> int:
    return len(text) if isinstance(text, str) else 0


TASKS.add(LanguageModelling.name, LanguageModelling())
