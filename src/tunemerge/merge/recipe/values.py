"""Values in a recipe that vary over the model: gradients over layers, and filters by tensor name.

A setting is a scalar; a list, interpolated linearly from the first layer to the last; or a list of
`{filter, value}`, of which the first whose filter is part of the tensor's name counts (no filter, or "*": any).
Tensors outside the layers take a list's first value; where there is a single layer, it takes the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tunemerge.findings import Finding, error
from tunemerge.merge.parameters import Parameter
from tunemerge.yamlfile import KeyPath

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_WORDS = {"yes": True, "on": True, "no": False, "off": False}
"""YAML 1.1, in which recipes have been written so far, reads these as booleans."""


class Depths:
    """Where each tensor stands between the first layer (0) and the last (1) of its stack."""

    def __init__(self, names: Iterable[str]) -> None:
        self._layers: dict[str, int] = {}
        for name in names:
            stack, layer = _place(name)
            if stack is not None:
                self._layers[stack] = max(self._layers.get(stack, 0), layer)

    def of(self, name: str) -> float:
        stack, layer = _place(name)
        if stack is None:
            return 0.0
        last = self._layers.get(stack, 0)
        return layer / last if last else 1.0


def _place(name: str) -> tuple[str | None, int]:
    """(the part of the name before the layer's number, the number), or (None, 0) outside of all layers."""
    found = _LAYER.search(name)
    return (name[: found.start(1)], int(found.group(1))) if found else (None, 0)


def evaluate(setting: Any, name: str, depth: float, parameter: Parameter) -> float | bool | None:
    """The value of a checked setting for one tensor; None where no filter fits."""
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return parameter.typed(_plain(setting))
    if setting and isinstance(setting[0], dict):
        for condition in setting:
            part = condition.get("filter")
            if part is None or part == "*" or part in name:
                return evaluate(condition["value"], name, depth, parameter)
        return None
    place = depth * (len(setting) - 1)
    if parameter.kind == "flag":
        return parameter.typed(_plain(setting[int(place)]))
    below = int(place)
    above, share = min(below + 1, len(setting) - 1), place - below
    return float((1 - share) * setting[below] + share * setting[above])


def check_setting(setting: Any, parameter: Parameter, path: KeyPath) -> Iterator[tuple[KeyPath, Finding]]:
    """Everything wrong with a setting: (the key path, what)."""
    if isinstance(setting, dict):
        yield from _check_condition(setting, parameter, path)
    elif isinstance(setting, list):
        if not setting:
            yield path, error("recipe-value", f"{parameter.name} is an empty list")
        conditions = sum(isinstance(item, dict) for item in setting)
        if 0 < conditions < len(setting):
            yield path, error("recipe-value", f"{parameter.name} mixes numbers and filters in one list")
        for i, item in enumerate(setting):
            if isinstance(item, list):
                yield (*path, i), error("recipe-value", f"{parameter.name} has a list within a list")
            else:
                yield from check_setting(item, parameter, (*path, i))
    else:
        problem = parameter.problem(_plain(setting))
        if problem:
            yield path, error("recipe-value", problem)


def _check_condition(item: dict[Any, Any], parameter: Parameter, path: KeyPath) -> Iterator[tuple[KeyPath, Finding]]:
    for key in item.keys() - {"filter", "value"}:
        yield (*path, key), error("recipe-key", f"an entry of {parameter.name} has filter and value, not {key!r}")
    if not isinstance(item.get("filter", ""), str):
        yield (*path, "filter"), error("recipe-value", "filter must be part of a tensor's name, as text")
    if "value" not in item:
        yield path, error("recipe-value", f"an entry of {parameter.name} has no value")
    elif isinstance(item["value"], dict) or (
        isinstance(item["value"], list) and any(isinstance(v, dict) for v in item["value"])
    ):
        yield (*path, "value"), error("recipe-value", f"{parameter.name} has a filter within a filter")
    else:
        yield from check_setting(item["value"], parameter, (*path, "value"))


def _plain(value: Any) -> Any:
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value
