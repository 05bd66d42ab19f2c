"""LiNeS (Wang et al. 2024, 2410.17146): task vectors scaled by depth, for any method that merges task vectors.

What a method says is to be added to the base is multiplied by alpha + beta * depth, where depth goes from 0 for the
first layer to 1 for the last (1 for a layer that is alone), and is 0 outside of all layers, as in the authors' code:
shallow layers, which hold what all tasks share, stay nearer to the base. Layers are found by the names of tensors; each
stack of layers (an encoder and a decoder) has its own first and last.

For one fine-tuned model the paper takes beta = 1 - alpha, so that the last layer stays as it is. For N models merged by
task arithmetic at weight 1 it takes alpha = 1 / N, for other methods times |sum of task vectors| / |merged one| (L1
norms), and beta from validation. In a recipe, `lambda: [alpha, alpha + beta]` does the same for methods that have a
lambda.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunemerge.checkpoint.layout import find_layout
from tunemerge.findings import Finding, error
from tunemerge.merge.method import Block, Looking, Method, Stream
from tunemerge.merge.parameters import Parameter, check

PARAMETERS = (
    Parameter("alpha", "number", 1.0, "factor on the first layer, and outside of all layers"),
    Parameter("beta", "number", 0.0, "what the factor on the last layer has more"),
)


@dataclass(frozen=True)
class DepthSchedule:
    """The factor on task vectors at depth 0, and what it grows by up to depth 1."""

    alpha: float
    beta: float

    @classmethod
    def parse(cls, given: Any) -> DepthSchedule | list[Finding]:
        """From `{alpha: number, beta: number}`; else everything that is wrong with it."""
        if not isinstance(given, Mapping):
            return [error("lines", f"lines takes alpha and beta, not {given!r}")]
        missing = [p.name for p in PARAMETERS if p.name not in given]
        findings = check(PARAMETERS, given, 0, "lines")
        findings += [error("lines", f"lines needs {name}", remedy="give alpha and beta") for name in missing]
        return findings or cls(float(given["alpha"]), float(given["beta"]))

    def factor(self, depth: float) -> float:
        return self.alpha + self.beta * depth


def refuses_lines(method: Method, has_base: bool) -> str | None:
    """Why there are no task vectors to scale, or None."""
    if method.takes_base and has_base:
        return None
    return f"lines scales task vectors, and {method.name} merges none {'here' if method.takes_base else 'at all'}"


def depths(names: Collection[str]) -> dict[str, float]:
    """0 for tensors of the first layer of a stack to 1 for the last; 0 outside of all stacks."""
    places = find_layout(sorted(names)).places
    return {name: place.stack.depth(place.number) if place else 0.0 for name, place in places.items()}


class Scaled:
    """Another stream whose results are brought nearer to the base: base + factor * (result - base)."""

    def __init__(self, stream: Stream, factor: float) -> None:
        self._stream, self._factor, self._one = stream, factor, np.ones(1)
        self.unit = stream.unit
        self.looks = isinstance(stream, Looking) and stream.looks

    @property
    def passes(self) -> int:
        return self._stream.passes

    def look(self, block: Block) -> None:
        assert isinstance(self._stream, Looking)
        self._stream.look(block)

    def scan(self, index: int, block: Block) -> None:
        self._stream.scan(index, block)

    def finish(self, index: int) -> None:
        self._stream.finish(index)

    def apply(self, block: Block) -> None:
        from tunemerge.merge.kernels.signatures import CHUNK
        from tunemerge.merge.kernels.sums import add_deltas

        self._stream.apply(block)
        add_deltas(block.out[None], block.deltas_from, self._one, self._factor, np.empty(CHUNK), block.out)
