"""TSV-Merge (Gargiulo et al. 2025): the largest singular vectors of every task, made orthogonal to each other.

Of the task vector of a matrix each of T tasks keeps the T-th part of its singular values, the largest. Their left
vectors side by side, U, are replaced by the nearest matrix with orthogonal columns, and so are the right ones, V: tasks
no longer write into each other's directions. The result is U S V^T. A task keeps at least one direction (the authors'
code keeps none where a matrix has fewer rows or columns than there are tasks), and none whose singular value is zero
to rounding. Tensors that are no matrices get the mean of the task vectors, as in the authors' code, where lambda is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import spread
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.parameters import LAMBDA, Values
from tunemerge.merge.spectral import Deltas, SpectralStream, joined, polar, svd

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Truncate, concatenate, orthogonalise by Procrustes, multiply."""
    import torch

    assert base is not None
    deltas = torch.stack([x.double() - base.double() for x in tensors])
    if base.ndim != 2 or not base.numel():
        return base.double() + values["lambda"] * deltas.mean(dim=0)
    keep = max(1, min(base.shape) // len(deltas))
    us, sizes, vs = (torch.cat(parts, dim=-1) for parts in zip(*(truncated(d, keep) for d in deltas), strict=True))
    return base.double() + values["lambda"] * (orthogonal(us) @ torch.diag(sizes) @ orthogonal(vs).T)


def truncated(matrix: torch.Tensor, keep: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `keep` largest singular values, without zeros, their left and their right vectors as columns: U, S, V."""
    import torch

    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    keep = min(keep, int((s > 1e-12 * s[0]).sum()))
    return u[:, :keep], s[:keep], vt[:keep].T


def orthogonal(columns: torch.Tensor) -> torch.Tensor:
    """The nearest matrix whose columns are orthogonal."""
    import torch

    if not columns.shape[1]:
        return columns
    p, d, qt = torch.linalg.svd(columns, full_matrices=False)
    real = d > 1e-12 * d[0]
    return p[:, real] @ qt[real]


def merge(deltas: Deltas, values: Values) -> torch.Tensor:
    import torch

    keep = max(1, min(deltas.shape) // len(deltas))
    lefts, sizes, rights = [], [], []
    for delta in deltas:
        left, size, right = (part[..., :keep] for part in svd(delta))
        # Copies: slices would keep the whole alive.
        lefts.append(left.clone())
        sizes.append(size)
        rights.append(right.clone())
        del delta, left, right
    left = polar(joined(lefts)).mul_(torch.cat(sizes))
    return left @ polar(joined(rights)).T


def stream(tensor: Tensor) -> SpectralStream:
    return SpectralStream(tensor, merge)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scales; the paper's first."""
    return [{"lambda": scale} for scale in spread([1.0, 0.7, 1.3, 0.5, 1.6], 0.0, 2.0, k)]


TSV_M = register(
    Method(
        name="tsv_m",
        paper="2412.00081",
        summary="largest singular vectors of every task, made orthogonal to each other",
        parameters=(LAMBDA,),
        base="needed",
        reference=reference,
        stream=stream,
        torch=True,
        candidates=candidates,
        idempotent=False,
    )
)
