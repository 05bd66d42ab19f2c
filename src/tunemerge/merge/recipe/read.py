"""One document of a recipe: from YAML to what is to be merged with what. Every fault is a finding with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunemerge.checkpoint.dtypes import TORCH_NAMES
from tunemerge.findings import error
from tunemerge.merge.lines import DepthSchedule, refuses_lines
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.recipe.checker import Checker
from tunemerge.merge.recipe.parts import Document, ModelRef, Module, Place, Settings
from tunemerge.merge.recipe.slices import read_inputs
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
    "lines",
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
    lines = _lines(data, method, base is not None, check)
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
        lines=lines,
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
        check.error(("merge_method",), "unknown-name", text, "for a method of your own: --plugin FILE.PY")
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
        return (Module("", read_inputs(data, (), method, base, [common], check), {}),)
    out = []
    named = check.mapping(data["modules"], ("modules",), "modules")
    if data["modules"] == {}:
        check.error(("modules",), "recipe-key", "modules names none")
    for name, entry in named.items():
        at: KeyPath = ("modules", name)
        entry = check.mapping(entry, at, f"the module {name!r}")
        check.keys(entry, ("models", "slices", "parameters"), at)
        if (entry.get("models") is None) == (entry.get("slices") is None):
            check.error(at, "recipe-key", f"the module {name!r} needs either models or slices")
            continue
        settings = check.settings(entry.get("parameters"), (*at, "parameters"), method)
        out.append(Module(str(name), read_inputs(entry, at, method, base, [settings, common], check), settings))
    return tuple(out)


def _dtype(data: Mapping[Any, Any], check: Checker) -> str | None:
    """What the output is written in: out_dtype, else dtype, as safetensors names it."""
    found = []
    for key in ("dtype", "out_dtype"):
        value = data.get(key)
        if value is None:
            continue
        name = value.removeprefix("torch.") if isinstance(value, str) else ""
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


def _lines(data: Mapping[Any, Any], method: Method | None, has_base: bool, check: Checker) -> DepthSchedule | None:
    """A depth schedule for the task vectors of any method that has some."""
    if data.get("lines") is None:
        return None
    found = DepthSchedule.parse(data["lines"])
    reason = refuses_lines(method, has_base) if method else None
    wrong = [*(found if isinstance(found, list) else []), *([error("lines", reason)] if reason else [])]
    for finding in wrong:
        check.add(("lines",), finding)
    return found if isinstance(found, DepthSchedule) else None


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
