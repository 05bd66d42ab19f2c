"""One document of a recipe: from YAML to what is to be merged with what. Every fault is a finding with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunemerge.checkpoint.dtypes import TORCH_NAMES
from tunemerge.findings import note
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.recipe.checker import Checker
from tunemerge.merge.recipe.parts import Document, ModelRef, Module, Place, Settings, Slice, Source
from tunemerge.merge.vocabulary.request import parse_tokenizer
from tunemerge.registry import nearest
from tunemerge.yamlfile import KeyPath

if TYPE_CHECKING:
    from tunemerge.merge.align.request import AlignRequest

INPUTS = ("models", "slices", "modules")
KEYS = (
    "merge_method",
    *INPUTS,
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
    "name",
    "average",
    "align",
)


def read_document(data: Mapping[Any, Any], check: Checker) -> Document | None:
    """None where it has no usable method; what else is wrong is in `check`."""
    check.keys(data, KEYS)
    method = _method(data, check)
    base = check.model(data["base_model"], ("base_model",)) if data.get("base_model") is not None else None
    common = check.settings(data.get("parameters"), ("parameters",), method)
    modules = _modules(data, method, base, common, check)
    name = data.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        check.error(("name",), "recipe-value", f"name must be text, not {name!r}")
        name = None
    dtype = _dtype(data, check)
    tokenizer, found = parse_tokenizer(data, (Path(), check.path.parent))
    for at, finding in found:
        check.add(at, finding)
    named = [check.model(name, ("tokenizer",)) for name in tokenizer.models()]
    average = _average(data, check)
    align, groups = _align(data, check)
    if method is None:
        return None
    givers = tuple(model for model in named if model is not None)
    return Document(
        name=name,
        method=method,
        base=base,
        modules=modules,
        settings=common,
        out_dtype=dtype,
        tokenizer=tokenizer,
        tokenizer_models=givers,
        average=average,
        align=align,
        groups=groups,
        data=data,
        names=check.names,
        line=check.line(()),
    )


def _method(data: Mapping[Any, Any], check: Checker) -> Method | None:
    name = data.get("merge_method")
    if isinstance(name, str) and name in METHODS:
        return METHODS[name]
    if name is None:
        check.error((), "recipe-key", f"merge_method is missing; one of {', '.join(METHODS.names())}")
    else:
        text = f"unknown merge method {name!r}{nearest(str(name), METHODS.names())}"
        check.error(("merge_method",), "unknown-name", text)
    return None


def _modules(
    data: Mapping[Any, Any], method: Method | None, base: ModelRef | None, common: Settings, check: Checker
) -> tuple[Module, ...]:
    given = [key for key in INPUTS if data.get(key) is not None]
    if len(given) != 1:
        found = f"found {' and '.join(given)}" if given else "none is there"
        check.error((given[1],) if given else (), "recipe-key", f"a merge needs one of {', '.join(INPUTS)}; {found}")
    if not given:
        return ()
    if given[0] != "modules":
        return (Module("", _inputs(data, (), method, base, [common], check), {}),)
    out = []
    for name, entry in check.mapping(data["modules"], ("modules",), "modules").items():
        at: KeyPath = ("modules", name)
        entry = check.mapping(entry, at, f"the module {name!r}")
        check.keys(entry, ("models", "slices", "parameters"), at)
        if (entry.get("models") is None) == (entry.get("slices") is None):
            check.error(at, "recipe-key", f"the module {name!r} needs either models or slices")
            continue
        settings = check.settings(entry.get("parameters"), (*at, "parameters"), method)
        out.append(Module(str(name), _inputs(entry, at, method, base, [settings, common], check), settings))
    return tuple(out)


def _inputs(
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


def _sources(value: Any, at: KeyPath, method: Method | None, check: Checker, *, ranged: bool) -> list[Source]:
    shape = "- {model: NAME, layer_range: [FIRST, END]}" if ranged else "- model: NAME"
    known = ("model", "layer_range", "parameters") if ranged else ("model", "parameters")
    out: list[Source] = []
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
        out.append(Source(model, layers, settings))
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
    listed: list[Source],
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
            text = f"{base} is not listed, so {method.name} merges it as one more model, as mergekit does"
            check.add(
                ("base_model",), note("base-is-merged", text, remedy="" if method.max_models else "list it, or no base")
            )
            sources = [*listed, Source(base, None, {})]
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
    base: ModelRef, mine: list[Source], others: list[Source], at: KeyPath, check: Checker
) -> Source | None:
    """The base among the sources of a slice; where it is not listed, with the range that all others share."""
    if len(mine) > 1:
        check.error(at, "recipe-slices", f"the base {base} gives two ranges to one slice; list it once")
    if mine:
        return mine[0]
    ranges = {s.layers for s in others}
    if len(ranges) == 1:
        return Source(base, ranges.pop(), {})
    text = f"which layers of the base {base} belong to this slice? Its sources give different ones"
    check.error(at, "recipe-slices", text, "list the base among the sources, with its layer_range")
    return None


def _required(
    method: Method, sources: Sequence[Source], levels: Sequence[Settings], at: KeyPath, check: Checker
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


def _dtype(data: Mapping[Any, Any], check: Checker) -> str | None:
    """What the output is written in: out_dtype, else dtype, as safetensors names it."""
    found = []
    for key in ("dtype", "out_dtype"):
        value = data.get(key)
        if value is None:
            continue
        name = value.removeprefix("torch.") if isinstance(value, str) else value
        if name in TORCH_NAMES:
            found.append(TORCH_NAMES[name])
        else:
            text = f"{key} must be one of {', '.join(TORCH_NAMES)}, not {value!r}"
            check.error((key,), "recipe-value", text)
    return found[-1] if found else None


def _average(data: Mapping[Any, Any], check: Checker) -> tuple[str, ...]:
    value = data.get("average") or []
    if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
        check.error(("average",), "recipe-value", "average must be a list of parts of tensor names")
        return ()
    return tuple(value)


def _align(data: Mapping[Any, Any], check: Checker) -> tuple[AlignRequest | None, Place | None]:
    """Git Re-Basin before the merge, and the file of groups that it reads, where it is given."""
    value = data.get("align")
    if value is None:
        return None, None
    from tunemerge.merge.align.request import AlignRequest

    file = value.get("groups") if isinstance(value, dict) else None
    if isinstance(file, str):
        value = {key: v for key, v in value.items() if key != "groups"}
    request = AlignRequest.parse(value)
    if not isinstance(request, AlignRequest):
        for finding in request:
            check.add(("align",), finding)
        return None, None
    if data.get("models") is None:
        check.error(("align",), "recipe-align", "align takes whole models, listed under `models`")
    return request, Place(file, kind="groups") if isinstance(file, str) else None
