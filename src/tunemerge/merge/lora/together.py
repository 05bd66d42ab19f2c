"""Several opened adapters of one base become one: which modules and tensors meet, and what can't."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunemerge.checkpoint.adapter import Adapter, Product
from tunemerge.checkpoint.adapter_writer import LowRank, NewAdapter, Whole
from tunemerge.checkpoint.dtypes import Array
from tunemerge.checkpoint.source import ArraySource
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.merge.lora.adapted import factors
from tunemerge.merge.lora.mix import Mix, mix_findings
from tunemerge.merge.lora.products import Pair, concatenate, knots, recompress
from tunemerge.merge.memory import merge_state
from tunemerge.merge.runner import Progress, silent


def combine(adapters: Sequence[Adapter], mix: Mix, progress: Progress = silent) -> NewAdapter:
    """The adapter of the merge. Ranks, alphas and target modules may differ; a module that an adapter lacks is zero.

    Biases of LoRA layers are added with the weights. Tensors that adapters keep whole are no changes, so they must be
    the same, or there in all with weights that sum to 1: then their mean is what the sum of the changes would be.
    Raises FindingsError with everything that is wrong.
    """
    refuse_errors(mix_findings(adapters, mix))
    weights = mix.weights or tuple(1 / len(adapters) for _ in adapters)
    whole, findings = _whole(adapters, weights)
    refuse_errors(findings)
    modules = sorted({module for adapter in adapters for module in adapter.products})
    done = []
    for i, module in enumerate(modules):
        progress(i / len(modules), module)
        weight = combine_module(adapters, module, mix, weights)
        if weight is not None:
            done.append(weight)
    progress(1.0, "")
    if not done:
        raise UsageError("the merge changes no weight: nothing is left to write")
    configs = [adapter.config for adapter in adapters]
    tasks = {config.get("task_type") for config in configs}
    saved = {name for config in configs for name in config.get("modules_to_save") or ()}
    settings = {
        "base_model_name_or_path": adapters[0].base,
        "task_type": tasks.pop() if len(tasks) == 1 else None,
        "fan_in_fan_out": any(bool(config.get("fan_in_fan_out")) for config in configs),
    }
    biases = any(config.get("bias", "none") != "none" for config in configs)
    return NewAdapter(done, whole, sorted(saved), biases, settings)


def combine_module(adapters: Sequence[Adapter], module: str, mix: Mix, weights: Sequence[float]) -> LowRank | None:
    """The merge of one module, or None where it is zero."""
    products = [adapter.products.get(module) for adapter in adapters]
    some = next(product for product in products if product is not None)
    pairs = [_pair(adapter, product, some) for adapter, product in zip(adapters, products, strict=True)]
    if mix.method == "knots":
        b, a = recompress(knots(pairs, lambda parts: _apply_rule(mix, module, parts)), mix.rank, mix.energy)
    else:
        b, a = concatenate(pairs, weights)
        if mix.method == "svd":
            largest = max(product.rank for product in products if product is not None)
            b, a = recompress((b, a), mix.rank or (None if mix.energy else largest), mix.energy)
    bias = _bias(adapters, products, weights)
    if not a.shape[0] and bias is None:
        return None
    if not a.shape[0]:  # PEFT has no layer without factors
        b, a = np.zeros((b.shape[0], 1)), np.zeros((1, a.shape[1]))
    right = a.reshape(a.shape[0], *some.shape[1:]).astype(np.float32)
    left = b.reshape(*b.shape, *(1 for _ in some.shape[2:])).astype(np.float32)
    return LowRank(module, left, right, some.embedding, bias)


def _pair(adapter: Adapter, product: Product | None, like: Product) -> Pair:
    """scale * b and a; rank 0 where the adapter leaves the module as it is."""
    if product is None:
        columns = int(np.prod(like.shape[1:]))
        return np.zeros((like.shape[0], 0)), np.zeros((0, columns))
    b, a = factors(adapter, product)
    return product.scale * b, a


def _apply_rule(mix: Mix, module: str, parts: Sequence[Array]) -> Array:
    name = f"{module}.weight"
    zero = {name: np.zeros_like(parts[0])}
    return merge_state(mix.rule, [{name: part} for part in parts], zero, mix.rule_values, seed=mix.seed)[name]


def _bias(adapters: Sequence[Adapter], products: Sequence[Product | None], weights: Sequence[float]) -> Array | None:
    terms = [
        weight * product.scale * adapter.read(product.bias).astype(np.float64)
        for adapter, product, weight in zip(adapters, products, weights, strict=True)
        if product is not None and product.bias
    ]
    return np.sum(terms, axis=0).astype(np.float32) if terms else None


def _whole(adapters: Sequence[Adapter], weights: Sequence[float]) -> tuple[dict[str, Whole], list[Finding]]:
    whole, findings = {}, []
    for name in sorted({name for adapter in adapters for name in adapter.saved}):
        having = [adapter for adapter in adapters if name in adapter.saved]
        arrays = [adapter.read(adapter.saved[name]) for adapter in having]
        first = having[0].tensors[having[0].saved[name]]
        fix = "give weights that sum to 1, or merge the models themselves: a recipe takes base+adapter as a model"
        where = ", ".join(str(adapter.folder) for adapter in having)
        if all(np.array_equal(array, arrays[0]) for array in arrays) and len(having) == len(adapters):
            raw = having[0].raw(having[0].saved[name]).reshape(-1)
            whole[name] = Whole(ArraySource(raw, first.dtype, name), first.shape)
        elif len({array.shape for array in arrays}) > 1:
            findings.append(error("lora-whole", f"{name!r} is kept whole in other shapes", where, fix))
        elif len(having) < len(adapters):
            text = f"{name!r} is kept whole in {len(having)} of {len(adapters)} adapters, and the others' is unknown"
            findings.append(error("lora-whole", text, where, fix))
        elif abs(sum(weights) - 1) > 1e-6:
            text = f"{name!r} is kept whole and differs, and the weights sum to {sum(weights):g}"
            findings.append(error("lora-whole", text, where, fix))
        else:
            mean = sum(weight * array.astype(np.float64) for weight, array in zip(weights, arrays, strict=True))
            values = np.asarray(mean, np.float32).reshape(-1)
            whole[name] = Whole(ArraySource(values, "F32", name), first.shape)
    return whole, findings
