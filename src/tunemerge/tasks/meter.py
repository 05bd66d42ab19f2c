"""What really went through a model: counted by a hook on its forward pass, not derived from the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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
    again: bool = False  # rows of this optimizer step that were counted before

    def see(self, training: bool, inputs: Mapping[str, Any]) -> None:
        """One forward pass; tokens are those that the mask does not hide. Inputs without tokens are of length 1, and so
        are images: the captions beside them are no rows."""
        if "pixel_values" in inputs:
            inputs = {"pixel_values": inputs["pixel_values"]}
        first = inputs["input_ids"] if "input_ids" in inputs else next(iter(inputs.values()))
        batch, length = first.shape if "input_ids" in inputs else (len(first), 1)
        if training:
            self.train_shapes[batch, length] += 1
            if not self.again:
                self.examples += batch
                self.tokens += int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else 0
        else:
            self.forward_examples += batch
            self.forward_shapes[batch, length] += 1

    def state(self) -> list[Any]:
        """What `set_state` puts back, as JSON."""
        shapes = [[[*shape, n] for shape, n in c.items()] for c in (self.train_shapes, self.forward_shapes)]
        return [self.examples, self.tokens, self.forward_examples, *shapes]

    def set_state(self, state: list[Any]) -> None:
        self.examples, self.tokens, self.forward_examples, *shapes = state
        self.train_shapes, self.forward_shapes = (Counter({(b, n): times for b, n, times in c}) for c in shapes)


@contextmanager
def metered(model: Any) -> Iterator[Meter]:
    """Count every forward pass of a torch model inside the block; models of texts are called by keywords."""
    meter = Meter()

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        meter.see(module.training, kwargs or {str(i): value for i, value in enumerate(args)})

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield meter
    finally:
        handle.remove()
