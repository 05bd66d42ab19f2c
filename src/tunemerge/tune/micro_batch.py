"""`micro_batch: auto`: the most rows of a pass for which memory suffices, tried before the training.

The order of the rows is known by then, and so is the largest pass of the whole training: it is computed once, forward
and backward, beside empty tensors in place of what the training will hold. What doesn't fit is halved.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from tunemerge.errors import UsageError
from tunemerge.tune.config import TuneConfig


def rows_that_fit(
    net: Any, config: TuneConfig, order: np.ndarray, lengths: np.ndarray, share: int, attempt: Callable[[Any], None]
) -> int:
    """A divisor of `share`, the rows of an optimizer step of this process: the first of share, a half, ... that fits.

    `order` are the rows that are trained on, `lengths` those of all rows in tokens; `attempt(rows)` computes the
    gradient of some. Leaves parameters, buffers, gradients (none), random state and mode as they were. UsageError
    where a single row doesn't fit.
    """
    import torch

    place = next(net.parameters()).device
    buffers, was_training = {name: b.clone() for name, b in net.named_buffers()}, net.training
    size = share
    try:
        with torch.random.fork_rng([place] if place.type == "cuda" else []):
            net.train()
            while not _fits(net, _held(config), largest_pass(order, lengths, size), attempt):
                if size == 1:
                    raise UsageError(
                        "memory doesn't suffice to train on a single row: lower max_length, or set "
                        "gradient_checkpointing: true, or method: lora, whose optimizer holds the state of little"
                    )
                size = next(n for n in range(size // 2, 0, -1) if share % n == 0)
    finally:
        net.train(was_training)
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
    return size


def largest_pass(order: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
    """Of the passes of `size` rows in this order the one with the most tokens, padding included; the first of them."""
    passes = [order[i : i + size] for i in range(0, len(order), size)]
    return max(passes, key=lambda rows: len(rows) * int(lengths[rows].max()))


def _held(config: TuneConfig) -> int:
    """How often the trained weights are in memory beside themselves and their gradients: AdamW's two moments, the best
    state, and what some settings keep."""
    return 3 + bool(config.sam) + bool(config.l2_sp) + 2 * bool(config.average)


def _fits(net: Any, held: int, rows: np.ndarray, attempt: Callable[[Any], None]) -> bool:
    import torch

    try:
        room = [torch.empty_like(p) for p in net.parameters() if p.requires_grad for _ in range(held)]
        attempt(rows)
        del room
        return True
    except RuntimeError as problem:  # torch.OutOfMemoryError is one; on a CPU it has no type of its own
        if not isinstance(problem, torch.OutOfMemoryError) and "can't allocate memory" not in str(problem):
            raise
    finally:
        net.zero_grad(set_to_none=True)
    gc.collect()  # tensors in frames of what was raised
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    return False
