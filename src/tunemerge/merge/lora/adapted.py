"""A model seen through an adapter: W + scale * B @ A, computed for the stretch that is read and for nothing else.

What changes comes out as float32 (float64 where the weight or a factor is), summed in float64 and rounded once. So a
merge rounds to the output's dtype at its end only: rounded to bfloat16 here already, as merge_and_unload does, a small
change is mostly lost. The dtype of a merge's output is to be planned from `model`, the model below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tunemerge.checkpoint.adapter import Adapter, Product
from tunemerge.checkpoint.adapter_fit import Change, adapter_changes, base_findings
from tunemerge.checkpoint.dtypes import NUMPY, Array, itemsize, to_float32
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.reader import FileReader
from tunemerge.checkpoint.source import Model, Source
from tunemerge.errors import UsageError
from tunemerge.findings import refuse_errors


class AdaptedModel:
    """`model` with `adapter` applied. Raises FindingsError where they don't fit, naming every tensor.

    `config` is the model's config.json: it is asked where the modules have other names than the tensors. `warnings` say
    what speaks against this pair without ruling it out. Memory: the factors of the tensors being read, and a block.
    """

    def __init__(self, model: Model, adapter: Adapter, config: Mapping[str, Any] | None = None) -> None:
        self.model, self.adapter = model, adapter
        self._changes, findings = adapter_changes(adapter, model, config)
        self.warnings = refuse_errors(findings or base_findings(adapter, model))

    @property
    def label(self) -> str:
        return f"{self.model.label}+{self.adapter.folder}"

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """By name, in name order."""
        infos = dict(self.model.tensors)
        for name, change in self._changes.items():
            info = self.adapter.tensors[change.saved] if change.saved else infos[name]
            dtype = _wide(self.adapter, info.dtype, change.product) if change.product else info.dtype
            infos[name] = TensorInfo(dtype, info.shape, 0, 0)
        return dict(sorted(infos.items()))

    def source(self, name: str) -> Source:
        change = self._changes.get(name)
        if change is None:
            return self.model.source(name)
        below = _SavedSource(self.adapter, change.saved) if change.saved else self.model.source(name)
        if change.product is None:
            return below
        return _AdaptedSource(below, self.adapter, change, self.tensors[name].dtype)


@dataclass(frozen=True)
class _SavedSource:
    """A tensor that the adapter's file holds whole."""

    adapter: Adapter
    name: str

    @property
    def dtype(self) -> str:
        return self.adapter.tensors[self.name].dtype

    @property
    def where(self) -> str:
        return f"{self.adapter.file}: {self.name}"

    def read_into(self, buffer: Array, start: int) -> None:
        with FileReader(self.adapter.file) as file:
            file.read_into(buffer, self.adapter.tensors[self.name].start + start * itemsize(self.dtype))


@dataclass(frozen=True)
class _AdaptedSource:
    """Adds a product, or the bias that belongs to it, to another source."""

    below: Source
    adapter: Adapter
    change: Change
    dtype: str

    @property
    def where(self) -> str:
        return f"{self.below.where} + {self.adapter.file}"

    def read_into(self, buffer: Array, start: int) -> None:
        from tunemerge.merge.lora.kernel import add_product

        if self.below.dtype == self.dtype:
            self.below.read_into(buffer, start)
        else:
            raw = np.empty(buffer.size, NUMPY[self.below.dtype])
            self.below.read_into(raw, start)
            buffer[:] = raw if raw.dtype.kind == "f" else to_float32(raw, self.below.dtype)
        left, right = self._factors
        if buffer.size:
            add_product(left, right, start, buffer)

    @cached_property
    def _factors(self) -> tuple[Array, Array]:
        """(rows, rank) and (rank, columns), float64, whose product is added to the tensor as it is stored."""
        product = self.change.product
        assert product is not None
        if self.change.bias and product.bias:
            # A bias is a product too: one row, (1, 1) @ (1, out).
            return np.array([[product.scale]]), self.adapter.read(product.bias).astype(np.float64).reshape(1, -1)
        left, right = factors(self.adapter, product)
        if self.change.transposed:
            left, right = right.T, left.T
        return np.ascontiguousarray(left * product.scale), np.ascontiguousarray(right)


def factors(adapter: Adapter, product: Product) -> tuple[Array, Array]:
    """B as (out, rank) and A as (rank, in * ...) in float64, not scaled. UsageError where they hold NaN or Inf."""
    left, right = (adapter.read(name) for name in (product.b, product.a))
    for name, values in ((product.b, left), (product.a, right)):
        if not np.isfinite(values).all():
            raise UsageError(f"{adapter.file}: {name}: holds NaN or Inf; the adapter is broken")
    return left.reshape(left.shape[0], -1).astype(np.float64), right.reshape(right.shape[0], -1).astype(np.float64)


def _wide(adapter: Adapter, dtype: str, product: Product) -> str:
    used = {dtype, *(adapter.tensors[name].dtype for name in (product.a, product.b, product.bias) if name)}
    return "F64" if "F64" in used else "F32"
