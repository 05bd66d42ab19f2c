"""Instructions as turns of a chat: from a person's columns to turns, and from turns to text of which parts are learned.

Three shapes of rows are read: a column of messages (`role` and `content`, or `from` and `value`), a prompt and its
completion, and the same with an `input` that the prompt is about (Alpaca's).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tunemerge.errors import UsageError

Turn = dict[str, str]
ROLES = ("system", "user", "assistant")
_OTHER_NAMES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "prompter": "user"}

# What Stanford's Alpaca and many others put around a prompt.
TEMPLATE = "### Instruction:\n{prompt}\n\n### Response:\n"


class Part(NamedTuple):
    """A stretch of the text that a model reads; `learned`: whether its tokens are supervised."""

    text: str
    learned: bool


class BadTurnsError(ValueError):
    """A row's messages can't be used; `code` is that of the finding."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def turns_of(cell: Any) -> list[Turn]:
    """The messages of a cell (a list, or its JSON), up to the last answer. Raises BadTurnsError."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            raise BadTurnsError("bad-messages", f"{cell[:40]!r} is no list of messages in JSON") from None
    if not isinstance(cell, list | tuple | np.ndarray) or not len(cell):
        raise BadTurnsError("bad-messages", f"{str(cell)[:40]!r} is no list of messages")
    turns = [_turn(message) for message in cell]
    answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        raise BadTurnsError("no-assistant-turn", f"none of its {len(turns)} turns is the assistant's")
    turns = turns[: answers[-1] + 1]
    for number, turn in enumerate(turns):
        if not turn["content"].strip() and turn["role"] != "system":
            code = "empty-completion" if turn["role"] == "assistant" else "empty-prompt"
            raise BadTurnsError(code, f"turn {number + 1} ({turn['role']}) is empty")
    if all(turn["role"] != "user" for turn in turns):
        raise BadTurnsError("empty-prompt", "no turn of a user comes before the answer")
    return turns


def _turn(message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise BadTurnsError("bad-messages", f"{str(message)[:40]!r} is no message with role and content")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    role = _OTHER_NAMES.get(str(role), str(role))
    if role not in ROLES:
        raise BadTurnsError("bad-messages", f"the role {role!r} is none of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise BadTurnsError("bad-messages", f"the content of a turn is {str(content)[:40]!r}, no text")
    return {"role": role, "content": content}


Render = Callable[[Sequence[Turn], bool], str]
"""Turns as text, and whether the text ends where an answer is to begin."""


def renderer(tokenizer: Any, template: str) -> Render:
    """The tokenizer's chat template, where it has one (rendered in the sandbox of transformers); else `template`, with
    {prompt}, for every turn of a user."""
    if getattr(tokenizer, "chat_template", None):
        return lambda turns, begin: tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=begin
        )
    end = tokenizer.eos_token or ""

    def plain(turns: Sequence[Turn], begin: bool) -> str:
        texts = {"system": "{}\n\n", "user": template.replace("{prompt}", "{}"), "assistant": f"{{}}{end}\n\n"}
        joined = "".join(texts[turn["role"]].replace("{}", turn["content"]) for turn in turns)
        # After the last answer nothing but the end is read.
        return joined if begin or turns[-1]["role"] != "assistant" else joined.removesuffix("\n\n")

    return plain


def parts_of(turns: Sequence[Turn], render: Render, where: str) -> list[Part]:
    """The text of a chat, cut where answers begin and end: what an assistant says is learned, with what ends it.

    UsageError where the template writes what came before an answer anew once the answer is there.
    """
    out: list[Part] = []
    done = ""
    for number, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        try:
            before, after = render(turns[:number], True), render(turns[: number + 1], False)
        except Exception as fault:  # a template raises what it likes
            raise UsageError(f"{where}: the tokenizer's chat template refuses it: {fault}") from fault
        if not (before.startswith(done) and after.startswith(before)):
            raise UsageError(
                f"{where}: the chat template does not leave the text before turn {number + 1} as it was (it hides or "
                "moves earlier turns), so what is learned can't be told; give prompt and completion of one turn"
            )
        out += [Part(before[len(done) :], False), Part(after[len(before) :], True)]
        done = after
    return out
