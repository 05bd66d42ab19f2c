"""Does an adapter fit a model, and what does it do to each of the model's tensors? From headers and a few samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.adapter import Adapter, Product
from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.fingerprint import fingerprint
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.skeleton import skeleton
from tunemerge.checkpoint.source import Model
from tunemerge.findings import Finding, error, warning
from tunemerge.registry import listed

_SHOWN = 3


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor: `saved` (a name in the adapter's file) or the base's own values, plus `product`.

    `transposed`: the stored weight is (in, out). `bias`: this tensor is the bias of the product's module.
    """

    saved: str | None = None
    product: Product | None = None
    transposed: bool = False
    bias: bool = False


def adapter_changes(
    adapter: Adapter, model: Model, config: Mapping[str, Any] | None = None
) -> tuple[dict[str, Change], list[Finding]]:
    """By name of the adapted model's tensor. The findings name every tensor that does not fit.

    `config` is the model's config.json, for architectures whose modules have other names than their tensors.
    """
    base = model.tensors
    rename = _Renaming(adapter, base, config or {})
    tied = adapter.record.get("tied", {})  # copies for PEFT, which saves tied modules one by one
    kept = {rename(name): key for name, key in adapter.saved.items() if rename(name) in base or name not in tied}
    found: dict[str, Change] = {name: Change(saved=key) for name, key in kept.items()}
    shapes = {name: info.shape for name, info in base.items()}
    shapes |= {name: adapter.tensors[change.saved].shape for name, change in found.items() if change.saved}
    missing, unlike, biasless = [], [], []
    tilted = _tilted(adapter, rename, shapes)
    for product in adapter.products.values():
        weight = rename(product.weight)
        shape = shapes.get(weight)
        if shape is None or (weight in base and base[weight].dtype not in FLOATS):
            missing.append(weight)
            continue
        turned = _turned(product, shape, weight in tilted)
        if shape != (product.shape[::-1] if turned else product.shape):
            unlike.append(f"{weight} {list(shape)} (the adapter's change is {list(product.shape)})")
            continue
        found[weight] = Change(found[weight].saved if weight in found else None, product, turned)
        if product.bias:
            name = rename(f"{product.module}.bias")
            if shapes.get(name) != product.shape[:1]:
                biasless.append(name)
            else:
                found[name] = Change(found[name].saved if name in found else None, product, bias=True)
    where = str(adapter.folder)
    said = f"; it was trained on {adapter.base!r}" if adapter.base else ""
    findings = []
    for code, names, text in (
        ("adapter-names", missing, f"{model.label} lacks {{}} of the {len(adapter.products)} weights that it changes"),
        ("adapter-shapes", unlike, f"{{}} weights of {model.label} have other shapes"),
        ("adapter-biases", biasless, f"{model.label} lacks {{}} biases that it changes"),
    ):
        if names:
            fix = f"use the base that the adapter was trained on{said}"
            findings.append(error(code, f"{text.format(len(names))}: {listed(names, _SHOWN)}", where, fix))
    return found, findings


def base_findings(adapter: Adapter, model: Model) -> list[Finding]:
    """Is `model` the base that the adapter belongs to, as far as the adapter tells?"""
    where, expected = str(adapter.folder), adapter.record.get("base", {}).get("fingerprint")
    if expected is not None:
        if fingerprint(model) == expected:
            return []
        text = f"it was made for {adapter.base or 'another base'}, whose weights are not those of {model.label}"
        return [error("adapter-base", text, where, "use the base that the adapter was made for")]
    name = Path(adapter.base).name
    if name and not any(part == name or part.endswith(f"--{name}") for part in Path(model.label).parts):
        text = f"it says that it was trained on {adapter.base!r}, and is applied to {model.label}"
        return [warning("adapter-base", text, where, "make sure that this is the same model")]
    return []


def _turned(product: Product, shape: tuple[int, ...], tilted: bool) -> bool:
    if product.embedding:
        return True
    if len(shape) != 2 or shape == product.shape:
        return tilted
    return shape == product.shape[::-1]


class _Renaming:
    """From an adapter's names to the base's: the same, as transformers renames them, or with a prefix more or less."""

    def __init__(self, adapter: Adapter, base: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> None:
        names = [product.weight for product in adapter.products.values()]
        self._places: Mapping[str, str] = {name: name for name in base}
        fitting = _fitting(names, self._places)
        if fitting is None:
            built = skeleton(config, list(base))
            if built is not None:
                places = {theirs: name for name, theirs in built.names.items()}
                fitting = _fitting(names, places)
                self._places = places if fitting else self._places
        self._drop, self._add = fitting or ("", "")

    def __call__(self, name: str) -> str:
        """The base's name; one that the base lacks (a new head's) stays as the adapter has it."""
        return self._places.get(_with(name, self._drop, self._add), name)


def _fitting(names: list[str], places: Mapping[str, str]) -> tuple[str, str] | None:
    """The prefix to drop and the one to add so that all names have a place, or None."""
    parts = names[0].split(".")
    shorter = [".".join(parts[:i]) + "." for i in range(1, len(parts) - 1) if ".".join(parts[i:]) in places]
    longer = [place.removesuffix(names[0]) for place in places if place.endswith(f".{names[0]}")]
    for drop, add in [("", ""), *((prefix, "") for prefix in shorter), *(("", prefix) for prefix in longer)]:
        if all(_with(name, drop, add) in places for name in names):
            return drop, add
    return None


def _with(name: str, drop: str, add: str) -> str:
    return add + name.removeprefix(drop) if name.startswith(drop) else name


def _tilted(adapter: Adapter, rename: _Renaming, shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Square weights that are stored as (in, out).

    A shape does not tell. The other weights do, where they agree: PEFT too goes by the kind of layer and corrects
    fan_in_fan_out. Only layers with a bias can be the Conv1D that is stored so.
    """
    square, ways = [], set()
    for product in adapter.products.values():
        weight = rename(product.weight)
        shape = shapes.get(weight, ())
        if len(shape) != 2 or product.embedding:
            continue
        if shape[0] != shape[1]:
            ways.add(shape != product.shape)
        elif rename(f"{product.module}.bias") in shapes:
            square.append(weight)
    way = ways.pop() if len(ways) == 1 else bool(adapter.config.get("fan_in_fan_out"))
    return frozenset(square if way else [])
