"""What a merge is going to do with every tensor, and everything that speaks against it, before it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunemerge.checkpoint.dtypes import FLOATS, INTEGERS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.match import tensor_differences
from tunemerge.findings import Finding, FindingsError, error, refuse_errors
from tunemerge.merge.lines import Lines, Scaled, depths, refuses_lines
from tunemerge.merge.method import METHODS, Method, Stream, Tensor
from tunemerge.merge.parameters import Values

ParametersOf = Callable[[str], Values]
"""Given parameters by tensor name, for recipes whose values change with the layer."""


@dataclass(frozen=True)
class Input:
    """A tensor of one of the plan's models."""

    model: int
    name: str


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the output: what goes in, by which method, with which resolved values.

    Inputs may have other names than the output, and any number of models may take part. `copy`: not a
    floating-point tensor; it must be the same in all inputs and is handed on. `factor` is on the way from the base to
    what the method says.
    """

    name: str
    shape: tuple[int, ...]
    out_dtype: str
    method: Method
    inputs: tuple[Input, ...]
    base: Input | None
    values: Values
    copy: bool = False
    factor: float = 1.0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def stream(self, seed: int, device: str = "cpu") -> Stream:
        """A fresh streaming form."""
        stream = self.method.stream(Tensor(self.name, self.shape, len(self.inputs), self.values, seed, device))
        return Scaled(stream, self.factor) if self.factor != 1 else stream


@dataclass(frozen=True)
class MergePlan:
    """Every tensor of the output, in name order. `models` are the labels of all inputs, a base among them."""

    models: tuple[str, ...]
    tensors: tuple[TensorPlan, ...]
    seed: int


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
    lines: Values | None = None,
) -> MergePlan:
    """Plan a merge of whole models given as (label, tensors); the base comes last among the plan's models.

    Nothing is read. Tensors whose name contains one of `average`, and with `average_missing` those that the base
    lacks, are averaged with the models' weights. An integer tensor that some models lack is copied from those that
    have it. `out_dtype` None keeps each tensor in the base's dtype, or the first model's. `lines` is {"alpha": ...,
    "beta": ...}, see `merge.lines`. Raises FindingsError with everything that is wrong.
    """
    refuse_merge(method, len(models), base is not None, out_dtype)
    factors = _factors(lines, method, base is not None, models[0][1])
    given = parameters if callable(parameters) else (lambda name: parameters)
    findings = tensor_differences(dict(models))
    base_tensors = base[1] if base and method.takes_base else {}
    tensors: list[TensorPlan] = []
    resolve = Resolver(method, len(models))
    for name in sorted({name for _, tensors_of in models for name in tensors_of}):
        holders = [i for i, (_, tensors_of) in enumerate(models) if name in tensors_of]
        infos = [models[i][1][name] for i in holders]
        info, in_base = infos[0], base_tensors.get(name)
        if len(infos) < len(models) and info.dtype not in INTEGERS:
            continue  # among the differences
        bad = unusable(name, [*infos, *([in_base] if in_base else [])])
        if bad:
            findings.append(bad)
            continue
        averaged = any(part in name for part in average)
        if method.takes_base and base and not averaged and info.dtype in FLOATS:
            averaged = average_missing and in_base is None
            if not averaged:
                findings += _base_differs(name, info, in_base, base[0])
        values = resolve(given(name))
        inputs = tuple(Input(i, name) for i in holders)
        under = Input(len(models), name) if in_base else None
        kept = out_dtype or (in_base or info).dtype
        if info.dtype in INTEGERS:
            tensors.append(TensorPlan(name, info.shape, info.dtype, method, inputs, under, {}, copy=True))
        elif averaged:
            shares = {"weight": average_weights(values, len(models)), "normalize": True}
            tensors.append(TensorPlan(name, info.shape, kept, METHODS["linear"], inputs, None, shares))
        else:
            factor = factors.get(name, 1.0)
            tensors.append(TensorPlan(name, info.shape, kept, method, inputs, under, values, factor=factor))
    refuse_errors(few(findings))
    labels = (*(label for label, _ in models), *((base[0],) if base else ()))
    return MergePlan(labels, tuple(tensors), seed)


def _factors(lines: Values | None, method: Method, has_base: bool, names: Collection[str]) -> dict[str, float]:
    """What `lines` asks for, by tensor; FindingsError where it can't be had."""
    if lines is None:
        return {}
    reason, found = refuses_lines(method, has_base), Lines.parse(lines)
    if reason or not isinstance(found, Lines):
        wrong = found if isinstance(found, list) else []
        raise FindingsError([*([error("lines", reason)] if reason else []), *wrong])
    return {name: found.factor(depth) for name, depth in depths(names).items()}


def refuse_merge(method: Method, n_models: int, has_base: bool, out_dtype: str | None) -> None:
    """FindingsError where a method can't take this many models, needs a base, or the output dtype is none."""
    reason = method.refuses(n_models, has_base)
    if reason:
        raise FindingsError([error("merge-models", reason)])
    if out_dtype is not None and out_dtype not in FLOATS:
        raise FindingsError([error("merge-dtype", f"{out_dtype} is not one of {', '.join(sorted(FLOATS))}")])


class Resolver:
    """Resolves parameters once for all tensors that are given the same ones."""

    def __init__(self, method: Method, n_models: int) -> None:
        self._method, self._n_models = method, n_models
        self._known: dict[str, dict[str, Any]] = {}

    def __call__(self, given: Values) -> dict[str, Any]:
        key = repr(sorted(given.items(), key=str))
        if key not in self._known:
            self._known[key] = self._method.resolve(given, self._n_models)
        return self._known[key]


def average_weights(values: Values, n_models: int) -> list[float]:
    """The shares for tensors that are averaged: the method's own weights where they can be shares, else equal."""
    weights = values.get("weight", [1 - values["t"], values["t"]] if "t" in values else [])
    usable = len(weights) == n_models and min(weights) >= 0 and sum(weights) > 0
    return list(weights) if usable else [1.0] * n_models


def unusable(name: str, infos: Sequence[TensorInfo]) -> Finding | None:
    """Why tensors of these dtypes can't be combined, or None."""
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


def few(findings: Sequence[Finding], limit: int = 5) -> list[Finding]:
    """At most `limit` findings of one code, the last of them saying how many more there are."""
    out: list[Finding] = []
    for code in dict.fromkeys(f.code for f in findings):
        same = [f for f in findings if f.code == code]
        out += same[:limit]
        if len(same) > limit:
            out.append(Finding(code, same[0].severity, f"the same with {len(same) - limit} more"))
    return out
