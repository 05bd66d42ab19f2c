"""How adapters are to be combined, and everything that speaks against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tunemerge.checkpoint.adapter import Adapter, Product
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.merge.method import METHODS
from tunemerge.registry import nearest

How = Literal["cat", "svd", "knots"]
METHOD_NAMES: tuple[How, ...] = ("cat", "svd", "knots")


@dataclass(frozen=True)
class Mix:
    """How adapters are combined.

    `cat`: the weighted sum, exactly. `svd`: its best approximation of rank `rank` or with the share `energy`. `knots`:
    aligned, then merged by the task-vector method `rule` with `parameters`, then as svd where rank or energy is given.
    `weights` None: equal shares that sum to 1 (the rule's own default for knots).
    """

    method: How = "cat"
    weights: tuple[float, ...] | None = None
    rank: int | None = None
    energy: float | None = None
    rule: str = "ties"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def rule_values(self) -> dict[str, Any]:
        """What the rule is given."""
        return dict(self.parameters) | ({"weight": list(self.weights)} if self.weights else {})


def mix_findings(adapters: Sequence[Adapter], mix: Mix) -> list[Finding]:
    """Everything that speaks against combining these adapters so, from headers and records alone."""
    return [*_request_findings(adapters, mix), *_base_findings(adapters), *_shape_findings(adapters)]


def _request_findings(adapters: Sequence[Adapter], mix: Mix) -> list[Finding]:
    found = []
    if not adapters:
        found.append(error("lora-adapters", "no adapter is given"))
    if mix.method not in METHOD_NAMES:
        found.append(error("lora-method", f"{mix.method!r} is not one of {', '.join(METHOD_NAMES)}"))
    if mix.weights is not None and len(mix.weights) != len(adapters):
        found.append(error("lora-weights", f"{len(mix.weights)} weights for {len(adapters)} adapters"))
    if mix.weights is not None and not np.isfinite(mix.weights).all():
        found.append(error("lora-weights", f"the weights must be numbers, not {mix.weights}"))
    if mix.method == "cat" and (mix.rank is not None or mix.energy is not None):
        found.append(error("lora-rank", "cat is exact and has the sum of the ranks; use svd for fewer"))
    if mix.rank is not None and mix.rank < 1:
        found.append(error("lora-rank", f"the rank must be at least 1, not {mix.rank}"))
    if mix.energy is not None and not 0 < mix.energy <= 1:
        found.append(error("lora-energy", f"the share of energy must lie in (0, 1], not {mix.energy}"))
    if mix.method != "knots" and mix.parameters:
        found.append(error("lora-rule", f"{', '.join(mix.parameters)}: parameters of a rule, which only knots applies"))
    return found + (_rule_findings(adapters, mix) if mix.method == "knots" else [])


def _rule_findings(adapters: Sequence[Adapter], mix: Mix) -> list[Finding]:
    if mix.rule not in METHODS:
        return [error("lora-rule", f"unknown merge method {mix.rule!r}{nearest(mix.rule, METHODS.names())}")]
    method = METHODS[mix.rule]
    if not method.needs_base:
        return [error("lora-rule", f"{mix.rule} merges weights, not changes; knots needs a task-vector method")]
    reason = method.refuses(len(adapters), has_base=True)
    if reason:
        return [error("lora-rule", reason)]
    try:
        method.resolve(mix.rule_values, len(adapters))
    except FindingsError as problem:
        return list(problem.findings)
    return []


def _base_findings(adapters: Sequence[Adapter]) -> list[Finding]:
    """Adapters of different bases add up to noise."""
    found = []
    for adapter in adapters[1:]:
        first = adapters[0]
        prints = [a.record.get("base", {}).get("fingerprint") for a in (first, adapter)]
        names = [Path(a.base).name for a in (first, adapter)]
        if prints[0] != prints[1] if all(prints) else all(names) and names[0] != names[1]:
            text = f"it was trained on {adapter.base!r}, and {first.folder} on {first.base!r}"
            fix = "merge adapters of one base"
            if not all(prints):
                fix += "; where both names mean the same model, write one of them into both (adapter_config.json)"
            found.append(error("lora-bases", text, str(adapter.folder), fix))
    return found


def _shape_findings(adapters: Sequence[Adapter]) -> list[Finding]:
    seen: dict[str, tuple[Product, Adapter]] = {}
    found = []
    for adapter in adapters:
        for module, product in adapter.products.items():
            before, of = seen.setdefault(module, (product, adapter))
            if (before.shape, before.embedding) != (product.shape, product.embedding):
                text = f"changes {module!r} by {list(product.shape)}, and {of.folder} by {list(before.shape)}"
                found.append(error("lora-shapes", text, str(adapter.folder), "merge adapters of one base"))
    products = [product for adapter in adapters for product in adapter.products.values()]
    if any(product.bias for product in products) and any(product.embedding for product in products):
        text = "one adapter has lora_bias and one adapts an embedding, and PEFT has no adapter with both"
        found.append(error("lora-bias", text, str(adapters[0].folder), "merge them into their base instead"))
    return found
