"""Iso-C (Marczak et al. 2025): the sum of the task matrices with all its singular values made equal.

Of the sum U S V^T of the task vectors of a matrix, the result is mean(S) U V^T: directions that many tasks share no
longer drown the others. The mean is over all min(rows, columns) singular values; directions whose singular value is
zero to rounding stay out, for they are no directions of the sum. Tensors that are no matrices get the mean of the task
vectors, as in the authors' code. Low-rank deltas (a merged LoRA) that went through a rounding to bfloat16 are full of
small singular values that are rounding alone, and these are made as large as the others: merge adapters as adapters.

The scale lambda is tuned on validation in the paper. Where tasks are nearly one, their sum is nearly one direction, and
this takes from it most of what all have learnt: three experts of MiniLM for the reviews of three sites, where the first
singular value was up to 200 times the mean, came to 72% at lambda 1, their average to 90% (`benchmarks/minilm.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import LAMBDA, Values
from tunemerge.merge.spectral import Deltas, SpectralStream, svd

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Flatten the spectrum of the sum."""
    import torch

    assert base is not None
    deltas = torch.stack([x.double() - base.double() for x in tensors])
    if base.ndim != 2 or not base.numel():
        return base.double() + values["lambda"] * deltas.mean(dim=0)
    u, s, vt = torch.linalg.svd(deltas.sum(dim=0), full_matrices=False)
    flat = torch.where(s > 1e-12 * s[0], s.mean(), 0.0)
    return base.double() + values["lambda"] * (u @ torch.diag(flat) @ vt)


def merge(deltas: Deltas, values: Values) -> torch.Tensor:
    left, sizes, right = svd(deltas.total())
    return (left @ right.T).mul_(sizes.sum() / min(deltas.shape))


def stream(tensor: Tensor) -> SpectralStream:
    return SpectralStream(tensor, merge)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scales."""
    return [{"lambda": scale} for scale in spread([1.0, 1.3, 0.7, 1.6, 0.5, 2.0], 0.0, 2.5, k)]


ISO_C = register(
    Method(
        name="iso_c",
        paper="2502.04959",
        summary="sum of task matrices with equal singular values",
        parameters=(LAMBDA,),
        base="needed",
        reference=reference,
        stream=stream,
        torch=True,
        candidates=candidates,
        symmetric=True,
        idempotent=False,
    )
)
