"""`tunemerge tune --find-rate`, as a person sees it: the loss by learning rate, and what that suggests."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from tunemerge.cli.bar import bar
from tunemerge.cli.output import answer, screen
from tunemerge.tune.find_rate import RangeTest, find_learning_rate

_ROWS, _WIDTH = 20, 40


def find_rate(model: str, data: Path, kind: str, seed: int, given: dict[str, Any]) -> None:
    console = screen()
    with bar(console, "range test") as tell:
        found = find_learning_rate(model, data, seed=seed, task=kind, progress=tell, **given)
    console.print(_table(found))
    ended = ", where the loss diverged" if found.diverged else ""
    text = f"{len(found.curve)} steps, {found.examples:,} examples, up to a rate of {found.curve[-1].rate:.2g}{ended}"
    console.print(text, highlight=False)
    console.print(_told(found), highlight=False, soft_wrap=True)
    answer(
        suggestion=found.suggestion,
        diverged=found.diverged,
        examples=found.examples,
        curve=[asdict(point) for point in found.curve],
    )


def _told(found: RangeTest) -> str:
    if found.suggestion is None:
        return "no suggestion: the loss did not fall by 5% anywhere"
    return (
        f"suggestion: learning_rate {found.suggestion:.2g}, where the loss falls most steeply; one noisy curve on "
        "training rows, no more: try it and its neighbours on validation (learning_rates in a study)"
    )


def _table(found: RangeTest) -> Table:
    """A line every few steps, and the one of the suggestion; bars from the lowest smoothed loss on."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (("rate", "right"), ("loss", "right"), ("smoothed", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    every = max(1, round(len(found.curve) / _ROWS))
    low, high = (f(p.smoothed for p in found.curve) for f in (min, max))
    for i, point in enumerate(found.curve):
        here = point.rate == found.suggestion
        if i % every == 0 or here:
            bars = "█" * round(1 + (_WIDTH - 1) * (point.smoothed - low) / max(high - low, 1e-12))
            values = (f"{point.rate:.1e}", f"{point.loss:.3f}", f"{point.smoothed:.3f}")
            table.add_row(*values, bars + " ← steepest" * here)
    return table
