"""What really went through a model: counted by a hook on its forward pass, not derived from the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, int]


@dataclass
class Meter:
    """Counts of one model. Shapes are (batch, padded length); passes in training mode and others are kept apart."""

    examples: int = 0
    tokens: int = 0
    forward_examples: int = 0
    train_shapes: Counter[Shape] = field(default_factory=Counter)
    forward_shapes: Counter[Shape] = field(default_factory=Counter)

    def see(self, training: bool, input_ids: Any, attention_mask: Any) -> None:
        """One forward pass of `input_ids` (batch, length); tokens are those that the mask does not hide."""
        batch, length = input_ids.shape
        if training:
            self.examples += batch
            self.tokens += int(attention_mask.sum())
            self.train_shapes[batch, length] += 1
        else:
            self.forward_examples += batch
            self.forward_shapes[batch, length] += 1


@contextmanager
def metered(model: Any) -> Iterator[Meter]:
    """Count every forward pass of a torch model inside the block."""
    meter = Meter()

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        meter.see(module.training, kwargs["input_ids"], kwargs["attention_mask"])

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield meter
    finally:
        handle.remove()
