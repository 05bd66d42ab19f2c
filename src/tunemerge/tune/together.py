"""One tuning in several processes: each computes its share of every batch, and gradients are summed before each step.

For processes that `torchrun` or `accelerate launch` started: `torchrun --nproc-per-node 2 -m tunemerge tune ...`. The
global batch, the order of the rows and the schedule are those of one process; the result is the same up to rounding
(with dropout: up to its masks). The weights are small enough for each process to hold them; what is saved is time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunemerge.errors import UsageError
from tunemerge.tasks.meter import Meter

# What tells transformers and accelerate that there are several processes: they would cut up batches by themselves.
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


@dataclass(frozen=True)
class Together:
    """The place of this process (from 0) among `size` that tune one model."""

    place: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """The process that writes and that people hear."""
        return self.place == 0

    def own_rows(self, order: np.ndarray, batch: int) -> np.ndarray:
        """The rows of this process, in order: its share of every batch. UsageError where one would have none."""
        if self.size == 1:
            return order
        if batch % self.size:
            raise UsageError(f"batch_size {batch} can't be shared equally by {self.size} processes")
        if 0 < len(order) % batch < self.size:
            raise UsageError(
                f"the last batch has {len(order) % batch} rows, too few for {self.size} processes; change epochs"
            )
        each = [np.array_split(order[i : i + batch], self.size)[self.place] for i in range(0, len(order), batch)]
        return np.concatenate(each)

    def sum_gradients(self, net: Any) -> None:
        """In place, over all processes; all of them call it equally often."""
        import torch.distributed as dist

        if self.size == 1:
            return
        for parameter in net.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)

    def total(self, numbers: list[float]) -> list[float]:
        """The sum of each number over all processes."""
        import torch.distributed as dist

        if self.size == 1:
            return numbers
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, numbers)
        return [sum(each) for each in zip(*every, strict=True)]

    def gather(self, meter: Meter) -> None:
        """Put what all processes trained on into `meter`; each has validated all rows itself, which counts once."""
        import torch.distributed as dist

        if self.size == 1:
            return
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, (meter.examples, meter.tokens, dict(meter.train_shapes)))
        meter.examples, meter.tokens = (sum(each[i] for each in every) for i in (0, 1))
        meter.train_shapes = sum((Counter(each[2]) for each in every), Counter())


def launched() -> Together:
    """How many processes were launched for this tuning, from the environment; one where nothing says so."""
    return Together(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@contextmanager
def joined(device: str) -> Iterator[Together]:
    """Inside the block the launched processes talk with each other, and transformers takes each for the only one."""
    import torch
    import torch.distributed as dist

    found = launched()
    if found.size == 1:
        yield found
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", rank=found.place, world_size=found.size)
    hidden = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    try:
        yield found
    finally:
        os.environ.update(hidden)
        dist.destroy_process_group()
