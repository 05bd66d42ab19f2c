"""Mixup (Zhang et al. 2018, 1710.09412): rows that are blends of two, and so are their answers; for images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunemerge.findings import Finding, error
from tunemerge.tune.config import TuneConfig


@dataclass(frozen=True)
class Blend:
    """Row i of a batch is `share` of itself and the rest of row `partner[i]`."""

    share: float
    partner: np.ndarray

    def inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Blended model inputs; each is a tensor of numbers, first axis the batch."""
        return {name: self.share * x + (1 - self.share) * x[self.partner] for name, x in inputs.items()}

    def losses(self, loss: Callable[[Any], Any], target: Any) -> Any:
        """(batch,): `loss(target)` is the loss of every row against these targets."""
        return self.share * loss(target) + (1 - self.share) * loss(target[self.partner])


def blend(alpha: float, rows: int, seed: int, step: int, part: int) -> Blend:
    """Drawn from the place in the training alone, so that a run that goes on draws the same."""
    generator = np.random.default_rng([seed, 0xB1, step, part])
    return Blend(float(generator.beta(alpha, alpha)), generator.permutation(rows))


def mixup_findings(config: TuneConfig, inputs: Mapping[str, Any]) -> list[Finding]:
    """An error where rows can't be blended: `inputs` are a batch's, by name."""
    whole = [name for name, values in inputs.items() if values.dtype.kind != "f"]
    if not config.mixup or not whole:
        return []
    text = f"mixup blends rows of numbers, and {whole[0]} holds whole ones (tokens, categories)"
    return [error("mixup", text, "tuning.mixup", "leave mixup out; it is for images")]
