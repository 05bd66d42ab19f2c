"""Typed parameters of merge methods: ranges, defaults, and whether each model has its own value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunemerge.findings import Finding, error
from tunemerge.registry import nearest

Values = Mapping[str, Any]
"""Resolved parameters: every parameter of the method is there; a per-model one is a list, one number a model."""


@dataclass(frozen=True)
class Parameter:
    """`per_model` parameters take one number for all models or a list with one number a model.

    `low` and `high` bound a number, both included. `required` means that a recipe must give it, as mergekit
    asks; elsewhere the default holds.
    """

    name: str
    kind: Literal["number", "integer", "flag"]
    default: float | bool
    text: str
    per_model: bool = False
    low: float = -math.inf
    high: float = math.inf
    required: bool = False

    def problem(self, value: Any) -> str | None:
        """Why this single value can't be used, or None."""
        if self.kind == "flag":
            return None if isinstance(value, bool) else f"{self.name} must be true or false, not {value!r}"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{self.name} must be a number, not {value!r}"
        if self.kind == "integer" and value != int(value):
            return f"{self.name} must be a whole number, not {value!r}"
        if not self.low <= value <= self.high:
            return f"{self.name} must be between {self.low:g} and {self.high:g}, not {value:g}"
        return None

    def typed(self, value: Any) -> float | int | bool:
        """A checked value in this parameter's own type, so that 1 and 1.0 are the same setting."""
        return {"flag": bool, "integer": int, "number": float}[self.kind](value)


def weight(default: float, text: str) -> Parameter:
    """The coefficient of each model."""
    return Parameter("weight", "number", default, text, per_model=True, required=True)


def density(default: float, text: str) -> Parameter:
    """The share of each task vector that is kept."""
    return Parameter("density", "number", default, text, per_model=True, low=0.0, high=1.0)


def flag(name: str, default: bool, text: str) -> Parameter:
    """A yes or no for the whole merge."""
    return Parameter(name, "flag", default, text)


LAMBDA = Parameter("lambda", "number", 1.0, "factor on the merged task vector")
INT8_MASK = flag("int8_mask", False, "accepted for mergekit's sake; changes nothing here")


def check(parameters: Sequence[Parameter], given: Values, n_models: int, method: str) -> list[Finding]:
    """Everything that is wrong with `given`: unknown names, types, ranges, numbers of values."""
    known = {p.name: p for p in parameters}
    findings = []
    for name, value in given.items():
        if name not in known:
            text = f"{method} has no parameter {name!r}{nearest(str(name), list(known))}"
            findings.append(error("unknown-parameter", text, name))
            continue
        parameter = known[name]
        if isinstance(value, list | tuple):
            if not parameter.per_model:
                findings.append(error("parameter-value", f"{name} takes one value, not a list", name))
                continue
            if len(value) != n_models:
                text = f"{name} has {len(value)} values for {n_models} models"
                findings.append(error("parameter-count", text, name, "give one value, or one a model"))
        problems = (parameter.problem(v) for v in (value if isinstance(value, list | tuple) else [value]))
        findings += [error("parameter-value", text, name) for text in problems if text]
    return findings


def fill(parameters: Sequence[Parameter], given: Values, n_models: int) -> dict[str, Any]:
    """All parameters of checked `given`, defaults filled in, per-model ones as lists."""
    out: dict[str, Any] = {}
    for parameter in parameters:
        value = given.get(parameter.name, parameter.default)
        if not parameter.per_model:
            out[parameter.name] = parameter.typed(value)
        elif isinstance(value, list | tuple):
            out[parameter.name] = [parameter.typed(v) for v in value]
        else:
            out[parameter.name] = [parameter.typed(value)] * n_models
    return out
