"""Values in a recipe that vary over the model: gradients over layers, and filters by tensor name.

A setting is a scalar; a list, interpolated linearly over the layers of a slice (t from 0 to 1); or a list of
`{filter, value}`, of which the first whose filter is part of the tensor's name counts (no filter, or "*": any).
Tensors outside the layers take a list's first value (t = 0); a slice of one layer takes the last (t = 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunemerge.findings import Finding, error
from tunemerge.merge.method import Method
from tunemerge.merge.parameters import Parameter, Values
from tunemerge.merge.recipe.parts import Settings
from tunemerge.yamlfile import KeyPath

_WORDS = {"yes": True, "on": True, "no": False, "off": False}
"""YAML 1.1, in which recipes have been written so far, reads these as booleans."""


class NoValueError(Exception):
    """A parameter that must be given has no value for a tensor; `model` is the position of the source, or None."""

    def __init__(self, parameter: str, model: int | None) -> None:
        super().__init__(parameter)
        self.parameter, self.model = parameter, model


def parameters_for(
    method: Method, own: Sequence[tuple[Settings, str]], common: Sequence[Settings], name: str, depth: float
) -> Values:
    """The method's parameters for one tensor of the output.

    `own` are each model's settings and the name of its tensor (what filters are held against), `common` the
    levels that count where a model says nothing, nearest first; `name` is the tensor's in the output.
    """
    out: dict[str, Any] = {}
    for parameter in method.parameters:
        if parameter.per_model:
            values = [_first(parameter, [s, *common], theirs, depth) for s, theirs in own]
            if parameter.required and None in values:
                raise NoValueError(parameter.name, values.index(None))
            out[parameter.name] = [parameter.default if v is None else v for v in values]
        else:
            value = _first(parameter, common, name, depth)
            if parameter.required and value is None:
                raise NoValueError(parameter.name, None)
            out[parameter.name] = parameter.default if value is None else value
    return out


def _first(parameter: Parameter, levels: Sequence[Mapping[str, Any]], name: str, depth: float) -> float | bool | None:
    for settings in levels:
        if parameter.name in settings:
            value = evaluate(settings[parameter.name], name, depth, parameter)
            if value is not None:
                return value
    return None


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
    below = int(place)
    if parameter.kind == "flag":
        return parameter.typed(_plain(setting[below]))
    above, share = min(below + 1, len(setting) - 1), place - below
    value = (1 - share) * _plain(setting[below]) + share * _plain(setting[above])
    return parameter.typed(round(value) if parameter.kind == "integer" else value)


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
    if not isinstance(item.get("filter") or "", str):
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
    """Text that says a number or a truth value, as that."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return _WORDS.get(value.lower(), value)
