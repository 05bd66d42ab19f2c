"""Which models of the graph are an adapter on another one: known while the plan is made, from the steps alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunemerge.graph.plan import Plan
from tunemerge.graph.step import Node, Step

_SUMS = ("linear", "task_arithmetic")
"""Merges of adapters on one model by these are an adapter again: factors side by side, exactly."""


@dataclass(frozen=True)
class Adapted:
    """A model that is the model `under` with an adapter of this rank; its weights have the adapter folded in."""

    under: Node
    rank: int


def adapted(model: Node) -> Adapted | None:
    """None for a model that is no adapter on another: trained in full, or merged by what is no sum of adapters."""
    if not isinstance(model, Step):
        return None
    if model.op == "tune" and model.params["tuning"]["method"] == "lora":
        (start,) = model.inputs["model"]
        before = adapted(start) if "under" in model.inputs else None
        return before or Adapted(start, model.params["tuning"]["lora"]["rank"])
    if model.op == "merge" and "under" in model.inputs:
        return _sum(model.inputs["models"])
    if model.op == "select":
        each = [adapted(m) for m in model.inputs["models"]]
        same = {(a.under.key, a.rank) if a else None for a in each}
        return each[0] if len(same) == 1 else None
    return None


def under_merge(method: str, models: Sequence[Node], base: Node | None) -> Node | None:
    """The model that a merge is an adapter on; None where its adapters are folded into the weights first."""
    found = _sum(models) if method in _SUMS else None
    if found is None or (method == "task_arithmetic" and (base is None or base.key != found.under.key)):
        return None
    return found.under


def folding(models: Sequence[Node]) -> str | None:
    """The first method on the way to these models that folds adapters into the weights; None where all stay."""
    steps = Plan.of([m for m in models if isinstance(m, Step)]).steps
    merges = (s for s in steps if s.op == "merge" and "under" not in s.inputs)
    return next((str(s.params["method"]) for s in merges if any(adapted(m) for m in s.inputs["models"])), None)


def form(models: Sequence[Node]) -> str:
    """How an arm's models are had, in words; empty where no adapter was trained."""
    said = dict.fromkeys(_form(model) for model in models)
    return "; ".join(text for text in said if text)


def _form(model: Node) -> str:
    found = adapted(model)
    if found:
        return f"adapter r={found.rank} on {found.under.name}"
    steps = Plan.of([model]).steps if isinstance(model, Step) else ()
    if not any(adapted(s) for s in steps):
        return ""
    last = next((s for s in reversed(tuple(steps)) if s.op == "merge" and "under" not in s.inputs), None)
    return "adapters folded into the weights" + (f" for {last.params['method']}" if last else "")


def _sum(models: Sequence[Node]) -> Adapted | None:
    """The sum of adapters on one model; None where one is no adapter, or on another model."""
    each = [a for m in models if (a := adapted(m)) is not None]
    if len(each) < len(models) or len({a.under.key for a in each}) != 1:
        return None
    return Adapted(each[0].under, sum(a.rank for a in each))
