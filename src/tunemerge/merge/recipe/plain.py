"""Whole models merged by one method, said as a recipe's document: what studies, searches and the Python API ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.source import Model
from tunemerge.findings import FindingsError, error, refuse_errors
from tunemerge.merge.method import Method
from tunemerge.merge.parameters import Values, fill
from tunemerge.merge.plan import MergePlan
from tunemerge.merge.recipe.assemble import assemble
from tunemerge.merge.recipe.documents import parse_data
from tunemerge.merge.recipe.parts import Document
from tunemerge.merge.recipe.views import make_views


def numbered(i: int) -> str:
    """What a document calls its models where it has no names for them."""
    return f"model:{i}"


def plain_document(
    method: Method,
    models: Sequence[Collection[str]],
    has_base: bool,
    parameters: Values,
    *,
    average: Collection[str] = (),
    lines: Values | None = None,
) -> Document:
    """The document that merges `models`, given as the names of their tensors, and called model:0, model:1...

    With `has_base` the last of them is the base; a method that takes none is not given it. A list among the parameters
    has one value a model. `average` are parts of names: tensors that have one are averaged with the models' weights.
    `lines` is as in a recipe. FindingsError with everything that is wrong.
    """
    count = len(models) - has_base
    reason = method.refuses(count, has_base)
    if reason:
        raise FindingsError([error("merge-models", reason)])
    values, usual = method.resolve(parameters, count), fill(method.parameters, {}, count)
    entries: list[dict[str, Any]] = [{"model": numbered(i)} for i in range(count)]
    common: dict[str, Any] = {}
    for parameter in method.parameters:
        name, value = parameter.name, values[parameter.name]
        if value == usual[name] and not parameter.required:
            continue
        if parameter.per_model and len(set(value)) > 1:
            for entry, single in zip(entries, value, strict=True):
                entry.setdefault("parameters", {})[name] = single
        else:
            common[name] = value[0] if parameter.per_model else value
    data: dict[str, Any] = {"merge_method": method.name, "models": entries}
    if has_base and method.takes_base:
        data["base_model"] = numbered(count)
    data |= {"parameters": common} if common else {}
    used = [part for part in average if any(part in name for names in models for name in names)]
    data |= {"average": used} if used else {}
    data |= {"lines": dict(lines) if isinstance(lines, Mapping) else lines} if lines is not None else {}
    return parse_data(data)


def plan_models(document: Document, models: Sequence[Model], *, seed: int = 0) -> MergePlan:
    """Plan a document of `plain_document` over models that are at hand, a base that it takes the last of them.

    Only names, dtypes and shapes are looked at. FindingsError with everything that is wrong.
    """
    donor = document.merged.index(document.donor)
    infos: list[tuple[Model, Mapping[str, TensorInfo], Mapping[str, Any]]] = [(m, m.tensors, {}) for m in models]
    views = dict(zip(document.merged, make_views(infos, donor), strict=True))
    assembly = assemble(document, views, seed=seed)
    refuse_errors(assembly.findings)
    return assembly.plan
