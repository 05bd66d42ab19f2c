"""Averages of the weights along a training: what is scored on validation and kept in place of the last state.

ema: the exponential mean of all states, without its bias to the start (Polyak & Juditsky 1992; as Adam corrects its
moments). swa: the plain mean of all states after a share of the steps (Izmailov et al. 2018, 1803.05407). lawa: the
mean of the states at the last few evaluations (Kaddour 2022, 2209.14981). Buffers (running statistics of batch norms)
are those of the last state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tunemerge.tune.config import AverageConfig


class Average:
    """The running average of a network's trained parameters."""

    def __init__(self, net: Any, config: AverageConfig, total: int) -> None:
        self._net, self._config = net, config
        self._first = int(config.start * total) + 1  # swa: the first step that counts
        self._count = 0
        self._sums: dict[str, Any] = {}
        self._states: list[dict[str, Any]] = []

    def after_step(self, step: int, evaluated: bool) -> None:
        """`step` from 1; `evaluated`: validation is scored after it."""
        method = self._config.method
        if method == "lawa":
            if evaluated:
                state = {name: p.detach().clone() for name, p in self._trained()}
                self._states = [*self._states, state][-self._config.last :]
            return
        if method == "swa" and step < self._first:
            return
        self._count += 1
        for name, p in self._trained():
            share = 1 / self._count if method == "swa" else 1 - self._config.decay
            there = self._sums.get(name)
            self._sums[name] = p.detach() * share if there is None else there.lerp_(p.detach(), share)

    def weights(self) -> dict[str, Any]:
        """The average by name; the present weights where nothing is averaged yet."""
        if self._config.method == "lawa":
            each = self._states
            return {name: sum(state[name] for state in each) / len(each) for name in (each[0] if each else {})}
        bias = 1 - self._config.decay**self._count if self._config.method == "ema" else 1.0
        return {name: value / bias for name, value in self._sums.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the network has the averaged weights."""
        own = {name: p.detach().clone() for name, p in self._trained()}
        self._net.load_state_dict(self.weights(), strict=False)
        try:
            yield
        finally:
            self._net.load_state_dict(own, strict=False)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `set_state` puts back: tensors, and the rest as JSON."""
        states = {f"{i}.{name}": t for i, state in enumerate(self._states) for name, t in state.items()}
        return {**{f"sum.{name}": t for name, t in self._sums.items()}, **states}, {"count": self._count}

    def set_state(self, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self._count = values["count"]
        place = next(self._net.parameters()).device
        found: dict[str, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            which, _, parameter = name.partition(".")
            found.setdefault(which, {})[parameter] = tensor.to(place)
        self._sums = found.pop("sum", {})
        self._states = [found[which] for which in sorted(found, key=int)]

    def _trained(self) -> list[tuple[str, Any]]:
        return [(name, p) for name, p in self._net.named_parameters() if p.requires_grad]
