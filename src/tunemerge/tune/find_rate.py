"""A learning-rate finder: a range test (Smith 2015, 1506.01186) of one tuning, on a person's own files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import savgol_filter

from tunemerge.errors import UsageError
from tunemerge.progress import Tell, shown
from tunemerge.tasks import hub
from tunemerge.tasks.meter import metered
from tunemerge.tasks.precision import torch_device
from tunemerge.tune.diverged import DivergedError
from tunemerge.tune.keeper import Keeper
from tunemerge.tune.model import prepare
from tunemerge.tune.resume import Resume
from tunemerge.tune.single import read_asked, write_start
from tunemerge.tune.together import Together
from tunemerge.tune.trainer import train
from tunemerge.tune.training_loss import TrainingLoss

_WINDOW = 11  # steps
_DIVERGED = 2.0  # times the lowest loss, both means of a few batches
_FALL = 0.05  # of the loss: a smaller fall is none


@dataclass(frozen=True)
class RangePoint:
    """One optimizer step: its learning rate, the loss of its batch before the step, and the smoothed loss."""

    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw. `suggestion` is where the smoothed loss falls most steeply, None where it never falls;
    `diverged` says whether it ended because the loss rose."""

    curve: tuple[RangePoint, ...]
    suggestion: float | None
    diverged: bool
    examples: int


class _RisenError(Exception):
    """The loss has left its lowest far behind."""


def find_learning_rate(
    model: str | Path,
    data: str | Path,
    *,
    steps: int = 100,
    low: float = 1e-6,
    high: float = 1.0,
    seed: int = 0,
    task: str = "text-classification",
    progress: Tell | None = None,
    **settings: Any,
) -> RangeTest:
    """Tune `model` on the rows of `data` while the learning rate rises from `low` to `high`, and see where the loss
    falls; nothing is written.

    `steps` optimizer steps of `batch_size` examples, the rate growing by the same factor in each; the test ends early
    where the loss is twice its lowest (means of five batches), or no number. `settings` are those of
    `tunemerge.tune`; schedule and warm-up play no part. The suggestion is a place to start from, read off one noisy
    curve on training rows: `learning_rates` or `tuning_search` of a study choose on validation. Raises UsageError or
    FindingsError for what a tuning would be refused for.
    """
    if not 0 < low < high < float("inf"):
        raise UsageError(f"low is {low:g} and high is {high:g}; expected 0 < low < high")
    if steps < 2 * _WINDOW:
        raise UsageError(f"steps is {steps}; a range test needs at least {2 * _WINDOW}")
    asked = read_asked(model, data, None, task, settings)
    config = asked.config.model_copy(update={"learning_rate": high})
    rates = np.geomspace(low, high, steps)
    with tempfile.TemporaryDirectory() as folder, shown("range test", progress) as tell:
        start, table = write_start(asked, Path(folder), seed)
        rows = asked.kind.read([table], asked.spec)
        seen: list[float] = []

        def after_step(step: int, loss: TrainingLoss) -> None:
            seen.append(loss.take())
            tell(step / steps, f"rate {rates[step - 1]:.1e}, loss {seen[-1]:.3f}")
            if _risen(seen):
                raise _RisenError

        def factor(step: int) -> float:
            return float(rates[step] / high)

        diverged, together = False, Together()
        with hub.quiet():
            loaded, lesson, _ = prepare(start, rows, asked.spec, config, seed, steps * config.batch_size)
            keeper = Keeper(loaded, len(lesson.order), config, None, tell)
            device, scratch = torch_device(), Path(folder)
            with metered(loaded.net) as counted:
                resume = Resume(loaded.net, keeper, counted, TrainingLoss(together), None)
                try:
                    train(loaded, lesson, config, seed, device, scratch, resume, after_step, together, factor)
                except (_RisenError, DivergedError):
                    diverged = True
    smoothed = smooth(seen) if len(seen) >= _WINDOW else np.array(seen)
    curve = tuple(RangePoint(float(r), x, float(s)) for r, x, s in zip(rates, seen, smoothed, strict=False))
    return RangeTest(curve, suggest(rates.tolist(), seen), diverged, counted.examples)


def smooth(losses: Sequence[float], slope: bool = False) -> np.ndarray:
    """A line fitted around every step to its neighbours on both sides, so that nothing lags: its value there, float64
    (n,), or its slope a step."""
    return np.asarray(savgol_filter(losses, _WINDOW, 1, deriv=int(slope)))


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the smoothed loss falls most steeply before its lowest point; None where it falls by less than
    a twentieth in all."""
    if len(losses) < _WINDOW:
        return None
    smoothed = smooth(losses)
    lowest = int(np.argmin(smoothed))
    if smoothed[lowest] > (1 - _FALL) * smoothed[0]:
        return None
    return float(rates[int(np.argmin(smooth(losses, slope=True)[: lowest + 1]))])


def _risen(losses: Sequence[float]) -> bool:
    """Whether the last few losses, in the mean, are far above the lowest."""
    means = np.convolve(losses, np.ones(_WINDOW // 2) / (_WINDOW // 2), "valid") if len(losses) >= _WINDOW else [0.0]
    return bool(means[-1] > _DIVERGED * min(means))
