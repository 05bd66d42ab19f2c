"""Recipes: mergekit's YAML, read strictly. What is not supported yet is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.dtypes import TORCH_NAMES
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.merge.method import Method
from tunemerge.merge.parameters import Values
from tunemerge.merge.plan import ParametersOf
from tunemerge.merge.recipe.old_check import Checker
from tunemerge.merge.recipe.values import Depths, evaluate
from tunemerge.yamlfile import load_yaml


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. `models` and `base` are as written; `models` is in the order of merging, without the base
    for methods of deltas, and with it first for slerp. `settings` are per model, `common` for all.

    `out_dtype` is a safetensors name or None; `tokenizer` the model whose tokenizer is copied; `warnings` what
    has no effect. `data` is the document itself.
    """

    path: Path
    method: Method
    models: tuple[str, ...]
    base: str | None
    settings: tuple[Mapping[str, Any], ...]
    common: Mapping[str, Any]
    out_dtype: str | None
    tokenizer: str | None
    average: tuple[str, ...]
    warnings: tuple[Finding, ...]
    data: Mapping[str, Any]

    def parameters_of(self, names: Iterable[str]) -> ParametersOf:
        """The parameters by tensor name, given the names of all tensors."""
        depths = Depths(names)
        return lambda name: self._parameters(name, depths.of(name))

    def _parameters(self, name: str, depth: float) -> Values:
        out: dict[str, Any] = {}
        for parameter in self.method.parameters:
            levels = [[s, self.common] for s in self.settings] if parameter.per_model else [[self.common]]
            values = [self._first(parameter.name, chain, name, depth) for chain in levels]
            if parameter.required and None in values:
                model = self.models[values.index(None)] if parameter.per_model else self.method.name
                text = f"no {parameter.name} of {model} applies to tensor {name!r}"
                raise FindingsError([error("recipe-value", text, str(self.path), "add an entry without a filter")])
            filled = [parameter.default if v is None else v for v in values]
            out[parameter.name] = filled if parameter.per_model else filled[0]
        return out

    def _first(self, parameter: str, chain: list[Mapping[str, Any]], name: str, depth: float) -> float | bool | None:
        known = next(p for p in self.method.parameters if p.name == parameter)
        for settings in chain:
            if parameter in settings:
                value = evaluate(settings[parameter], name, depth, known)
                if value is not None:
                    return value
        return None


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe. FindingsError with everything that is wrong, each with its line."""
    path = Path(path)
    data, lines = load_yaml(path)
    check = Checker(path, lines)
    if not isinstance(data, dict):
        raise FindingsError([error("recipe-empty", "a recipe is a mapping with merge_method and models", str(path))])
    check.top_level(data)
    method = check.method(data)
    entries = check.models(data)
    base = check.model_name(data["base_model"], ("base_model",)) if data.get("base_model") is not None else None
    common = check.settings(data.get("parameters"), ("parameters",), method, for_model=False)
    settings = {name: check.settings(raw, at, method, for_model=True) for name, raw, at in entries}
    names = list(settings)
    if method is not None:
        names = _order(method, names, base)
        reason = method.refuses(len(names), base is not None)
        if reason:
            check.add(("models",), error("merge-models", reason))
        check.required(method, {name: settings.get(name, {}) for name in names}, common)
    dtype = check.dtype(data)
    tokenizer = check.tokenizer(data, base, names)
    average = check.average(data)
    warnings = check.done()
    assert method is not None
    return Recipe(
        path=path,
        method=method,
        models=tuple(names),
        base=base,
        settings=tuple(settings.get(name, {}) for name in names),
        common=common,
        out_dtype=TORCH_NAMES[dtype] if dtype else None,
        tokenizer=tokenizer,
        average=average,
        warnings=warnings,
        data=data,
    )


def _order(method: Method, names: list[str], base: str | None) -> list[str]:
    """The models to merge: a base is no expert of itself, and the side of a slerp where t is 0."""
    if base is None:
        return names
    others = [name for name in names if name != base]
    if method.needs_base:
        return others
    if method.max_models == 2:
        return [base, *others]
    return names
