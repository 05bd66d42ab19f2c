"""The optimizer's groups of parameters, and what pulls weights aside from the gradient: layer-wise rates, L2-SP."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tunemerge.tasks.task import Loaded
from tunemerge.tune.config import TuneConfig
from tunemerge.tune.layers import depths
from tunemerge.tune.parts import head_names


def parameter_groups(model: Loaded, config: TuneConfig, decayed: Collection[str]) -> list[dict[str, Any]]:
    """Groups for AdamW: weight decay for the parameters called `decayed`, a learning rate by depth.

    With `layer_decay` d the head learns at the full rate and a layer k below it at d^k of it (Howard & Ruder 2018,
    1801.06146; as in ELECTRA). With `l2_sp` the body has no weight decay: the pull to the start takes its place.
    """
    head = head_names(model)
    depth = depths([name for name, _ in model.net.named_parameters()], head)
    top = max(depth.values(), default=0)
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.net.named_parameters():
        if parameter.requires_grad:
            pulled = config.l2_sp and name not in head
            decay = config.weight_decay if name in decayed and not pulled else 0.0
            rate = config.learning_rate * config.layer_decay ** (top - depth[name])
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


class Start:
    """L2-SP (Li et al. 2018, 1802.01483): trained weights of the body are drawn to where they started.

    Decoupled from Adam's scaling, as weight decay is in AdamW: w -= rate * strength * (w - w0) before every step.
    """

    def __init__(self, model: Loaded, strength: float) -> None:
        head = head_names(model)
        self._strength = strength
        self._start: Mapping[Any, Any] = {
            p: p.detach().clone() for n, p in model.net.named_parameters() if p.requires_grad and n not in head
        }

    def pull(self, optimizer: Any) -> None:
        """Once before an optimizer step, at the rates of its groups."""
        import torch

        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter in self._start:
                        parameter.lerp_(self._start[parameter], group["lr"] * self._strength)
