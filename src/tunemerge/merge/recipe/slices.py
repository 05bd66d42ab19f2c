"""What is merged with what: `models` and `slices` of a document or a module, in the order of merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunemerge.findings import note
from tunemerge.merge.method import Method
from tunemerge.merge.recipe.checker import Checker
from tunemerge.merge.recipe.parts import Member, ModelRef, Settings, Slice
from tunemerge.yamlfile import KeyPath


def read_inputs(
    data: Mapping[Any, Any],
    at: KeyPath,
    method: Method | None,
    base: ModelRef | None,
    above: Sequence[Settings],
    check: Checker,
) -> tuple[Slice, ...]:
    """The slices of `models` (one, of whole models) or of `slices`; `above` are the levels of settings above."""
    if data.get("models") is not None:
        at = (*at, "models")
        listed = _sources(data["models"], at, method, check, ranged=False)
        return (_arrange(listed, method, base, {}, above, at, check),)
    out, at = [], (*at, "slices")
    for i, entry in enumerate(check.entries(data["slices"], at, "slices must be a list of `- sources: [...]`")):
        place = (*at, i)
        entry = check.mapping(entry, place, "a slice")
        check.keys(entry, ("sources", "base_model", "residual_weight", "parameters"), place)
        if "residual_weight" in entry:
            check.warn(
                (*place, "residual_weight"), "no-effect", "residual_weight has no effect, nor has it in mergekit"
            )
        own = entry.get("base_model")
        under = check.model(own, (*place, "base_model")) if own is not None else base
        settings = check.settings(entry.get("parameters"), (*place, "parameters"), method)
        listed = _sources(entry.get("sources"), (*place, "sources"), method, check, ranged=True)
        out.append(_arrange(listed, method, under, settings, [settings, *above], (*place, "sources"), check))
    return tuple(out)


def _sources(value: Any, at: KeyPath, method: Method | None, check: Checker, *, ranged: bool) -> list[Member]:
    shape = "- {model: NAME, layer_range: [FIRST, END]}" if ranged else "- model: NAME"
    known = ("model", "layer_range", "parameters") if ranged else ("model", "parameters")
    out: list[Member] = []
    for i, entry in enumerate(check.entries(value, at, f"{at[-1]} must be a list of `{shape}`")):
        place = (*at, i)
        if not isinstance(entry, dict) or "model" not in entry:
            check.error(place, "recipe-key", f"a model is written `{shape}`, with parameters below it")
            continue
        check.keys(entry, known, place)
        layers = _range(entry.get("layer_range"), (*place, "layer_range"), check) if ranged else None
        settings = check.settings(entry.get("parameters"), (*place, "parameters"), method, for_model=True)
        model = check.model(entry["model"], (*place, "model"))
        if model is None:
            continue
        if any(model == s.model and layers == s.layers for s in out):
            check.error((*place, "model"), "recipe-model", f"{str(model)!r} is listed twice")
            continue
        out.append(Member(model, layers, settings))
    lengths = {s.layers[1] - s.layers[0] for s in out if s.layers is not None}
    if len(lengths) > 1:
        text = f"the sources of a slice give different numbers of layers: {', '.join(map(str, sorted(lengths)))}"
        check.error(at, "recipe-slices", text)
    return out


def _range(value: Any, at: KeyPath, check: Checker) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value) and 0 <= value[0] <= value[1]:
        return value[0], value[1]
    text = f"layer_range is [FIRST, END], END not included, not {value!r}"
    check.error(at, "recipe-value", "a slice's model needs a layer_range" if value is None else text)
    return 0, 0


def _arrange(
    listed: list[Member],
    method: Method | None,
    base: ModelRef | None,
    settings: Settings,
    levels: Sequence[Settings],
    at: KeyPath,
    check: Checker,
) -> Slice:
    """Sources in the order of merging: a base is no expert of itself, and the side of a slerp where t is 0."""
    if method is None or not listed:
        return Slice(tuple(listed), None, settings)
    mine = [s for s in listed if s.model == base]
    others = [s for s in listed if s.model != base]
    whole = listed[0].layers is None
    sources, under = listed, None
    if base is not None and method.base == "no":
        if whole and not mine:
            text = f"{method.name} uses no base, so {base} is merged as one more model, as in mergekit"
            check.add(("base_model",), note("base-is-merged", text, remedy="remove base_model to leave it out"))
            sources = [*listed, Member(base, None, {})]
    elif base is not None:
        found = _base_source(base, mine, others, at, check)
        if method.base == "first":
            sources = [*([found] if found else []), *others]
        else:
            sources, under = others, found
            if found is not None and found.settings:
                check.warn(at, "no-effect", f"parameters of {base} have no effect: it is the base")
    reason = method.refuses(len(sources), under is not None or (base is not None and method.takes_base))
    if reason:
        check.error(at, "merge-models", reason)
    _required(method, sources, levels, at, check)
    return Slice(tuple(sources), under, settings)


def _base_source(
    base: ModelRef, mine: list[Member], others: list[Member], at: KeyPath, check: Checker
) -> Member | None:
    """The base among the sources of a slice; where it is not listed, with the range that all others share."""
    if len(mine) > 1:
        check.error(at, "recipe-slices", f"the base {base} gives two ranges to one slice; list it once")
    if mine:
        return mine[0]
    ranges = {s.layers for s in others}
    if len(ranges) == 1:
        return Member(base, ranges.pop(), {})
    text = f"which layers of the base {base} belong to this slice? Its sources give different ones"
    check.error(at, "recipe-slices", text, "list the base among the sources, with its layer_range")
    return None


def _required(
    method: Method, sources: Sequence[Member], levels: Sequence[Settings], at: KeyPath, check: Checker
) -> None:
    for parameter in method.parameters:
        if not parameter.required or any(parameter.name in level for level in levels):
            continue
        if not parameter.per_model:
            check.error(("parameters",), "recipe-missing", f"{method.name} needs the parameter {parameter.name}")
            continue
        for source in sources:
            if parameter.name not in source.settings:
                text = f"{method.name} needs the parameter {parameter.name} of {source.model}"
                check.error(at, "recipe-missing", text)
