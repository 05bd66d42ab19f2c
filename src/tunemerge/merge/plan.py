"""What a merge is going to do with every tensor, and everything that speaks against it, before it is done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunemerge.checkpoint.dtypes import FLOATS, INTEGERS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.match import tensor_differences
from tunemerge.findings import Finding, FindingsError, error, refuse_errors
from tunemerge.merge.method import METHODS, Method, Stream, Tensor
from tunemerge.merge.parameters import Values

ParametersOf = Callable[[str], Values]
"""Given parameters by tensor name, for recipes whose values change with the layer."""


@dataclass(frozen=True)
class TensorPlan:
    """`action`: merge by the method, average linearly, or copy what must be equal. `values` are resolved."""

    name: str
    shape: tuple[int, ...]
    size: int
    out_dtype: str
    action: Literal["merge", "average", "copy"]
    uses_base: bool
    values: Values


@dataclass(frozen=True)
class MergePlan:
    """Every tensor of the output, in name order."""

    method: Method
    seed: int
    tensors: tuple[TensorPlan, ...]
    n_models: int

    def stream(self, plan: TensorPlan) -> Stream:
        """A fresh streaming form for one tensor."""
        tensor = Tensor(plan.name, plan.size, self.n_models, plan.values, self.seed)
        if plan.action == "average":
            return METHODS["linear"].stream(tensor)
        return self.method.stream(tensor)


def plan_merge(
    method: Method,
    models: Sequence[tuple[str, Mapping[str, TensorInfo]]],
    base: tuple[str, Mapping[str, TensorInfo]] | None,
    parameters: Values | ParametersOf,
    *,
    seed: int = 0,
    average: Collection[str] = (),
    average_missing: bool = False,
    out_dtype: str | None = None,
) -> MergePlan:
    """Plan a merge of models given as (name for errors, tensors). Nothing is read.

    Tensors whose name contains one of `average`, and with `average_missing` those that the base lacks, are
    averaged with the models' weights. `out_dtype` None keeps each tensor in the base's dtype, or the first
    model's. Raises FindingsError with everything that is wrong.
    """
    reason = method.refuses(len(models), base is not None)
    if reason:
        raise FindingsError([error("merge-models", reason)])
    if out_dtype is not None and out_dtype not in FLOATS:
        raise FindingsError([error("merge-dtype", f"{out_dtype} is not one of {', '.join(sorted(FLOATS))}")])
    given = parameters if callable(parameters) else (lambda name: parameters)
    findings = tensor_differences(dict(models))
    base_tensors = base[1] if base and method.needs_base else {}
    tensors: list[TensorPlan] = []
    resolved: dict[str, dict[str, Any]] = {}
    for name, info in sorted(models[0][1].items()):
        infos = [tensors_of[name] for _, tensors_of in models if name in tensors_of]
        in_base = base_tensors.get(name)
        everyone = [*infos, *([in_base] if in_base else [])]
        if len(infos) < len(models):
            continue
        bad = _unusable(name, everyone)
        if bad:
            findings.append(bad)
            continue
        averaged = any(part in name for part in average)
        if method.needs_base and not averaged and info.dtype in FLOATS:
            averaged = average_missing and in_base is None
            if not averaged and base:
                findings += _base_differs(name, info, in_base, base[0])
        kept = out_dtype or (in_base or info).dtype
        values = given(name)
        key = repr(sorted(values.items(), key=str))
        if key not in resolved:
            resolved[key] = method.resolve(values, len(models))
        if info.dtype in INTEGERS:
            tensors.append(TensorPlan(name, info.shape, info.size, info.dtype, "copy", in_base is not None, {}))
        elif averaged:
            shares = {"weight": average_weights(resolved[key], len(models)), "normalize": True}
            tensors.append(TensorPlan(name, info.shape, info.size, kept, "average", False, shares))
        else:
            tensors.append(TensorPlan(name, info.shape, info.size, kept, "merge", method.needs_base, resolved[key]))
    refuse_errors(_few(findings))
    return MergePlan(method, seed, tuple(tensors), len(models))


def average_weights(values: Values, n_models: int) -> list[float]:
    """The shares for tensors that are averaged: the method's own weights where they can be shares, else equal."""
    weights = values.get("weight", [1 - values["t"], values["t"]] if "t" in values else [])
    usable = len(weights) == n_models and min(weights) >= 0 and sum(weights) > 0
    return list(weights) if usable else [1.0] * n_models


def _unusable(name: str, infos: Sequence[TensorInfo]) -> Finding | None:
    dtypes = sorted({info.dtype for info in infos})
    if all(d in FLOATS for d in dtypes) or (len(dtypes) == 1 and dtypes[0] in INTEGERS):
        return None
    return error(
        "tensor-dtype",
        f"stored as {' and '.join(dtypes)}, which can't be merged",
        name,
        "save the models in float32, float16 or bfloat16 first",
    )


def _base_differs(name: str, info: TensorInfo, in_base: TensorInfo | None, base: str) -> list[Finding]:
    if in_base is None:
        text = f"{base} has no such tensor, so there is no difference to merge"
        fix = "use the base that the models were tuned from, or have this tensor averaged"
        return [error("base-lacks-tensor", text, name, fix)]
    if in_base.shape != info.shape:
        text = f"shape {list(info.shape)} in the models, {list(in_base.shape)} in {base}"
        return [error("base-shape", text, name, "use the base that the models were tuned from")]
    return []


def _few(findings: Sequence[Finding], limit: int = 5) -> list[Finding]:
    """At most `limit` findings of one code, the last of them saying how many more there are."""
    out: list[Finding] = []
    for code in dict.fromkeys(f.code for f in findings):
        same = [f for f in findings if f.code == code]
        out += same[:limit]
        if len(same) > limit:
            out.append(Finding(code, same[0].severity, f"the same with {len(same) - limit} more"))
    return out
