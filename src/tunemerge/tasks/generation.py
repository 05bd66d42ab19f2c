"""Answers that a model writes, greedily and so always the same, and how near they are to the right ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_BATCH = 32


def greedy(net: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[str]:
    """What follows each prompt (token ids), up to the end of a text or `new_tokens` tokens, without special tokens.

    The most likely token each time, whatever the model's own settings for sampling; prompts of like length together.
    """
    import torch
    from transformers import GenerationConfig

    ends = {tokenizer.eos_token_id, *_listed(net.generation_config.eos_token_id)} - {None}
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    own, net.generation_config = net.generation_config, settings
    place = next(net.parameters()).device
    order = np.argsort([-len(ids) for ids in prompts], kind="stable")
    out = [""] * len(prompts)
    try:
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            width = max(len(prompts[row]) for row in rows)
            ids = torch.full((len(rows), width), tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, width - len(prompts[row]) :] = torch.tensor(prompts[row])
                mask[i, width - len(prompts[row]) :] = 1
            with torch.no_grad():
                found = net.generate(input_ids=ids.to(place), attention_mask=mask.to(place))
            for row, text in zip(rows, tokenizer.batch_decode(found[:, width:], skip_special_tokens=True), strict=True):
                out[row] = text
    finally:
        net.generation_config = own
    return out


def exact_match(answer: str, right: str) -> float:
    """1 where both are the same text, without regard to case and spaces; else 0."""
    return float(answer.casefold().split() == right.casefold().split())


def rouge_l(answer: str, right: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004), in [0, 1]; words are runs of letters and digits."""
    one, two = _words(answer), _words(right)
    if not one or not two:
        return float(one == two)
    common = _longest_common(one, two)
    return 2 * common / (len(one) + len(two))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _longest_common(one: Sequence[str], two: Sequence[str]) -> int:
    above = [0] * (len(two) + 1)
    for word in one:
        row = [0]
        for i, other in enumerate(two):
            row.append(above[i] + 1 if word == other else max(row[-1], above[i + 1]))
        above = row
    return above[-1]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
