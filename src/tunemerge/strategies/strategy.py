"""What a strategy is, and where strategies are found: one file each in this folder, read by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tunemerge.registry import Registry
from tunemerge.strategies.setting import Answer

StrategyRole = Literal["order", "alternative", "control"]


@dataclass(frozen=True)
class Strategy:
    """An order of merging and tuning, or a control.

    `role`: "order" (compared in the verdict), "alternative" (same budget, no merge), "control". `merges`: one arm a
    merge method. `each_of_pool`: one arm a model of the pool, whose name `build` gets as second argument. `spends`: how
    much of the budget it tunes with ("budget", "nothing", or "more": stands apart from the matched arms).
    `for_private`: made for tasks whose rows may not be pooled; other studies run it where they name it.
    """

    name: str
    build: Callable[..., Answer]
    role: StrategyRole
    paper: str | None
    merges: bool
    each_of_pool: bool
    spends: Literal["budget", "nothing", "more"]
    for_private: bool = False

    @property
    def description(self) -> str:
        return next(iter((self.build.__doc__ or "").strip().splitlines()), "")


STRATEGIES: Registry[Strategy] = Registry("strategy", "tunemerge.strategies.presets", "tunemerge.strategies")


def strategy(
    name: str,
    *,
    role: StrategyRole = "control",
    paper: str | None = None,
    merges: bool = False,
    each_of_pool: bool = False,
    spends: Literal["budget", "nothing", "more"] = "budget",
    for_private: bool = False,
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a function from a Setting to an Answer; its docstring's first line is shown to people."""

    def register(build: Callable[..., Answer]) -> Callable[..., Answer]:
        STRATEGIES.add(name, Strategy(name, build, role, paper, merges, each_of_pool, spends, for_private))
        return build

    return register
