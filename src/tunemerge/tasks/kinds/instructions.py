"""Instructions: a prompt or a chat, a causal language model, and how well it answers. Only answers are learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, note, warning
from tunemerge.registry import listed
from tunemerge.stats.metrics import METRICS
from tunemerge.tasks import hub
from tunemerge.tasks.batching import Encoded
from tunemerge.tasks.causal_model import CausalKind, encoded_rows, start_token
from tunemerge.tasks.chat import TEMPLATE, BadTurnsError, Part, Turn, parts_of, renderer, turns_of
from tunemerge.tasks.generation import exact_match, greedy, rouge_l
from tunemerge.tasks.nearest import nearest_answers
from tunemerge.tasks.rows import Rows, read_table, rows_from, texts
from tunemerge.tasks.spec import Spec
from tunemerge.tasks.task import TASKS, KindControl, Loaded, Source
from tunemerge.tasks.text_model import longest_row

_REMEDY = {
    "empty-prompt": "write what is asked, or delete these rows",
    "empty-completion": "write the answer, or delete these rows",
    "no-assistant-turn": "add the answer as a turn of the role 'assistant', or delete these rows",
    "bad-messages": 'a chat is a list of {"role": "user", "content": "..."}',
}


class InstructionOptions(BaseModel):
    """A prompt and its completion (with an input: Alpaca's format), or a chat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("prompt", description="column of what is asked", examples=["instruction"])
    completion: str = Field("completion", description="column of the answer that is learned", examples=["output"])
    input: str | None = Field(
        None, description="column of what the prompt is about (Alpaca's `input`); may be empty", examples=["input"]
    )
    messages: str | None = Field(
        None, description="instead of prompt and completion: column of a chat, a list of messages with `role` and "
        "`content`; what the assistant says is learned, the last turn of it is what answers are compared with",
        examples=["messages"],
    )  # fmt: skip
    template: str = Field(
        TEMPLATE, description="what is put around a prompt, at {prompt}, where the tokenizer has no chat template",
        pattern=r"\{prompt\}", examples=["Question: {prompt}\nAnswer:"],
    )  # fmt: skip
    new_tokens: int = Field(64, ge=1, description="how many tokens a generated answer may have", examples=[200])


def _nearest(spec: Spec, train: Rows, rows: Rows, seed: int) -> np.ndarray:
    asked, known = ([_text(turns[:-1]) for turns in part.features] for part in (rows, train))
    right, answers = ([turns[-1]["content"] for turns in part.features] for part in (rows, train))
    found = nearest_answers(known, answers, asked, right)
    size = rows.target
    return np.stack([found[:, 0], size, size, found[:, 1], found[:, 2]], axis=1)


class Instructions(CausalKind):
    """Rows have a `prompt` (the turns before the answer, as JSON) and a `completion`; a prediction is how likely a
    model finds the answer (nats, tokens, bytes), and exact match and ROUGE-L of the answer that it writes itself."""

    name = "instructions"
    prediction = "completion"
    metric = "completion_bits_per_byte"
    Options = InstructionOptions
    target = ("completion",)
    generates = True
    controls: ClassVar[Mapping[str, KindControl]] = {
        "nearest_answers": KindControl(_nearest, "The answers of the most similar prompts in training, no checkpoint.")
    }

    def source(self, options: InstructionOptions) -> Source:
        if options.messages:
            return Source({"messages": options.messages}, frozenset({"messages"}))
        extra = {"input": options.input} if options.input else {}
        return Source(
            {"prompt": options.prompt, "completion": options.completion, **extra}, frozenset({"prompt", "completion"})
        )

    def convert(
        self, table: pd.DataFrame, options: InstructionOptions, where: str
    ) -> tuple[pd.DataFrame, list[Finding]]:
        wrong: dict[str, list[tuple[int, str]]] = {}
        prompts, completions = [], []
        for row, cells in enumerate(_cells(table, options)):
            try:
                turns = turns_of(cells)
            except BadTurnsError as e:
                wrong.setdefault(e.code, []).append((row, str(e)))
                turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
            prompts.append(json.dumps(turns[:-1], ensure_ascii=False))
            completions.append(turns[-1]["content"])
        rows = pd.DataFrame({"prompt": prompts, "completion": completions}, index=table.index)
        found = []
        for code, faults in wrong.items():
            lines = [table.index[row] + 1 for row, _ in faults]
            column = options.messages or (options.prompt if code == "empty-prompt" else options.completion)
            text = f"column {column!r}: {faults[0][1]} (data row {lines[0]})"
            if len(faults) > 1:
                text += f", and {len(faults) - 1} more rows ({listed(lines[1:], 5)})"
            found.append(error(code, text, where, _REMEDY[code]))
        return rows, found

    def spec(self, options: InstructionOptions, rows: Sequence[pd.DataFrame]) -> Spec:
        return Spec(self.name, (), {"template": options.template, "new_tokens": options.new_tokens})

    def preview(self, folder: Path, spec: Spec, rows: pd.DataFrame, max_length: int, where: str) -> list[Finding]:
        try:
            tokenizer = _tokenizer(folder)
            limit = longest_row(tokenizer, hub.read_config(folder), max_length)
            render = renderer(tokenizer, spec.options["template"])
            chats = [_chat(*pair) for pair in zip(rows["prompt"], rows["completion"], strict=True)]
            parts = [parts_of(chat, render, f"data row {i + 1}") for chat, i in zip(chats, rows.index, strict=True)]
        except UsageError as e:
            return [error("bad-template", str(e), where)]
        return supervised_findings(
            [tokens_of(part, tokenizer) for part in parts], list(rows.index), limit, tokenizer, where
        )

    def texts(self, rows: pd.DataFrame) -> list[str]:
        pairs = zip(rows["prompt"], rows["completion"], strict=True)
        return [f"{_text(json.loads(prompt))}\n{completion}" for prompt, completion in pairs]

    def read(self, paths: Sequence[Path], spec: Spec) -> Rows:
        """Features are whole chats, the answer last; the target are the answer's bytes."""
        table = read_table(paths, ["prompt", "completion"])
        answers = texts(table, "completion", paths)
        chats = [_chat(*pair) for pair in zip(texts(table, "prompt", paths), answers, strict=True)]
        return rows_from(table, chats, np.array([len(answer.encode()) for answer in answers], np.float64))

    def encode(self, model: Loaded, rows: Rows, max_length: int) -> Encoded:
        """The tokens of answers are supervised, with what ends them; the bytes are those of all answers of a row. Of a
        row that is too long the beginning is left out, and its share of the bytes."""
        tokenizer = _tokenizer(model.folder)
        limit = longest_row(tokenizer, model.net.config, max_length)
        render = renderer(tokenizer, model.spec.options["template"])
        tokens, supervised, size = [], [], rows.target.copy()
        for row, turns in enumerate(rows.features):
            ids, learned = tokens_of(parts_of(turns, render, f"row {row}"), tokenizer)
            tokens.append(ids[-limit:])
            supervised.append(learned[-limit:])
            said = sum(len(t["content"].encode()) for t in turns if t["role"] == "assistant")
            size[row] = said * sum(supervised[-1]) / max(1, sum(learned))
        return encoded_rows(tokens, supervised, size, tokenizer.pad_token_id, limit)

    def answer(self, model: Loaded, rows: Rows, outputs: np.ndarray, max_length: int) -> np.ndarray:
        """With exact match and ROUGE-L of what the model writes after each prompt."""
        tokenizer = _tokenizer(model.folder)
        room = longest_row(tokenizer, model.net.config, max_length)
        render = renderer(tokenizer, model.spec.options["template"])
        new = min(model.spec.options["new_tokens"], room // 2)
        right = [turns[-1]["content"] for turns in rows.features]
        prompts, ends = [], []
        for row, turns in enumerate(rows.features):
            *before, last = parts_of(turns, render, f"row {row}")
            prompts.append(tokens_of(before, tokenizer)[0][-(room - new) :])
            ends.append(last.text.partition(right[row])[2].strip())
        written = greedy(model.net, tokenizer, prompts, new)
        # Where a template ends a turn with a token that is not special, the answer ends there too.
        answers = [text.split(end)[0] if end else text for text, end in zip(written, ends, strict=True)]
        scores = [(exact_match(a, b), rouge_l(a, b)) for a, b in zip(answers, right, strict=True)]
        return np.concatenate([outputs, np.array(scores)], axis=1)

    def held_out_loss(self, model: Loaded, predictions: np.ndarray, rows: Rows) -> float:
        """Nats a token of the answers."""
        return METRICS["completion_nll"].fn(rows.target, predictions, rows.weight)


def tokens_of(parts: Sequence[Part], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of a chat, and 1 for those that are learned.

    Every part is cut into tokens by itself, as where an answer is generated. A last answer that its template does not
    end gets the token for an end, and learns it: whatever token pads, a model learns to stop.
    """
    first = start_token(tokenizer)
    ids: list[int] = []
    learned: list[int] = []
    for part in parts:
        found = tokenizer(part.text, add_special_tokens=False)["input_ids"]
        ids += found
        learned += [int(part.learned)] * len(found)
    if ids[: len(first)] != first:
        ids, learned = [*first, *ids], [0] * len(first) + learned
    if parts[-1].learned and tokenizer.eos_token not in parts[-1].text:
        ids, learned = [*ids, tokenizer.eos_token_id], [*learned, 1]
    return ids, learned


def supervised_findings(
    pairs: Sequence[tuple[list[int], list[int]]], index: Sequence[Any], limit: int, tokenizer: Any, where: str
) -> list[Finding]:
    """What is learned of rows (as `tokens_of` gives them, with their numbers in the data): the first as a sample, rows
    of which nothing is learned, how many are longer than `limit` tokens."""
    ids, learned = pairs[0]
    sample = (
        f"a model learns what stands between ⟦ and ⟧ ({sum(learned)} of {len(ids)} tokens of data row {index[0] + 1}): "
        f"{shown(ids, learned, tokenizer)}"
    )
    found = [note("supervised", sample, where)]
    nothing = [i + 1 for i, (_, flags) in zip(index, pairs, strict=True) if not any(flags[-limit:][1:])]
    if nothing:
        text = f"of {len(nothing)} rows nothing would be learned (data rows {listed(nothing, 5)})"
        found.append(error("nothing-supervised", text, where, "raise tuning.max_length, or delete these rows"))
    cut = sum(len(tokens) > limit for tokens, _ in pairs)
    if cut:
        text = f"{cut} of {len(pairs)} rows have more than {limit} tokens: their beginning is not read"
        found.append(warning("rows-cut", text, where, "raise tuning.max_length, or shorten the prompts"))
    return found


def shown(ids: Sequence[int], learned: Sequence[int], tokenizer: Any) -> str:
    """Tokens as text, what is learned between ⟦ and ⟧."""
    runs = groupby(zip(ids, learned, strict=True), key=lambda pair: pair[1])
    texts = [(flag, tokenizer.decode([token for token, _ in run])) for flag, run in runs]
    return "".join(f"⟦{text}⟧" if flag else text for flag, text in texts)


def _chat(prompt: str, answer: str) -> list[Turn]:
    """The turns of a row."""
    return [*json.loads(prompt), {"role": "assistant", "content": answer}]


def _tokenizer(folder: Path) -> Any:
    tokenizer = hub.tokenizer_of(folder)
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"{folder / 'tokenizer_config.json'}: no eos_token, so answers could not learn where to end; name one"
        )
    return tokenizer


def _cells(table: pd.DataFrame, options: InstructionOptions) -> list[Any]:
    """Every row as messages."""
    if options.messages:
        return list(table[options.messages])
    about = table[options.input] if options.input else [""] * len(table)
    return [
        [
            {"role": "user", "content": _with_input(prompt, text)},
            {"role": "assistant", "content": "" if pd.isna(completion) else str(completion)},
        ]
        for prompt, text, completion in zip(table[options.prompt], about, table[options.completion], strict=True)
    ]


def _with_input(prompt: Any, text: Any) -> str:
    asked = "" if pd.isna(prompt) else str(prompt)
    more = "" if pd.isna(text) else str(text)
    return f"{asked}\n\n### Input:\n{more}" if more.strip() and asked.strip() else asked


def _text(turns: Sequence[Turn]) -> str:
    return "\n".join(turn["content"] for turn in turns)


TASKS.add(Instructions.name, Instructions())
