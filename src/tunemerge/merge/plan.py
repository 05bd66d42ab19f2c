"""What a merge is going to do with every tensor: plain data, and what planning it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunemerge.checkpoint.dtypes import FLOATS, INTEGERS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.findings import Finding, error
from tunemerge.merge.lines import Scaled
from tunemerge.merge.method import Method, Stream, Tensor
from tunemerge.merge.parameters import Values


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

    def stream(self, seed: int, device: str = "auto") -> Stream:
        """A fresh streaming form."""
        stream = self.method.stream(Tensor(self.name, self.shape, len(self.inputs), self.values, seed, device))
        return Scaled(stream, self.factor) if self.factor != 1 else stream


@dataclass(frozen=True)
class MergePlan:
    """Every tensor of the output, in name order. `models` are the labels of all inputs, a base among them."""

    models: tuple[str, ...]
    tensors: tuple[TensorPlan, ...]
    seed: int


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


def few(findings: Sequence[Finding], limit: int = 5) -> list[Finding]:
    """At most `limit` findings of one code, the last of them saying how many more there are."""
    out: list[Finding] = []
    for code in dict.fromkeys(f.code for f in findings):
        same = [f for f in findings if f.code == code]
        out += same[:limit]
        if len(same) > limit:
            out.append(Finding(code, same[0].severity, f"the same with {len(same) - limit} more"))
    return out
