"""Iso-CTS (Marczak et al. 2025): Iso-C, with the least of its directions given to what single tasks have of their own.

With r = min(rows, columns) and T tasks, the s = round((1 - common) r / T) last directions a task of the sum of the task
matrices are replaced: of every task's matrix, without its part in the sum's first r - T s left singular vectors, the
first s singular vectors are taken. All left vectors together are made orthogonal, and so are all right ones, by the
nearest orthogonal matrix; the result is their product times the mean of all the singular values that came along.

`common` is 0.8 in the paper. s is at most r / T. Directions whose singular value is zero to rounding stay out.
Tensors that are no matrices get the mean of the task vectors, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemerge.merge.grids import pairs
from tunemerge.merge.method import Method, Tensor, register
from tunemerge.merge.methods.tsv_m import orthogonal, truncated
from tunemerge.merge.parameters import LAMBDA, Parameter, Values
from tunemerge.merge.spectral import Deltas, SpectralStream, joined, polar, svd

if TYPE_CHECKING:
    import torch


def reference(tensors: Sequence[torch.Tensor], base: torch.Tensor | None, values: Values) -> torch.Tensor:
    """Common directions, then each task's own, then make them orthogonal and equally long."""
    import torch

    assert base is not None
    deltas = torch.stack([x.double() - base.double() for x in tensors])
    if base.ndim != 2 or not base.numel():
        return base.double() + values["lambda"] * deltas.mean(dim=0)
    r, tasks = min(base.shape), len(deltas)
    own = min(r // tasks, round((r - int(r * values["common"])) / tasks))
    found = [truncated(deltas.sum(dim=0), r - tasks * own)]
    shared = found[0][0]
    found += [truncated(delta - shared @ (shared.T @ delta), own) for delta in deltas]
    us, sizes, vs = (torch.cat(parts, dim=-1) for parts in zip(*found, strict=True))
    return base.double() + values["lambda"] * sizes.sum() / r * (orthogonal(us) @ orthogonal(vs).T)


def merge(deltas: Deltas, values: Values) -> torch.Tensor:
    room, tasks = min(deltas.shape), len(deltas)
    own = min(room // tasks, round((room - int(room * values["common"])) / tasks))
    common = room - tasks * own
    left, sizes, right = (part[..., :common].clone() for part in svd(deltas.total()))
    lefts, rights, total = [left], [right], sizes.sum()
    for delta in deltas if own else ():
        delta -= left @ (left.T @ delta)
        one, sizes, other = (part[..., :own] for part in svd(delta))
        # Copies: slices would keep the whole alive.
        lefts.append(one.clone())
        rights.append(other.clone())
        total = total + sizes.sum()
        del delta, one, other
    del left, right
    return (polar(joined(lefts)) @ polar(joined(rights)).T).mul_(total / room)


def stream(tensor: Tensor) -> SpectralStream:
    return SpectralStream(tensor, merge)


def candidates(n_models: int, k: int) -> list[dict[str, Any]]:
    """Scale and the common share; the paper's share first."""
    scales, shares = [1.0, 1.3, 0.7, 1.6, 0.5], [0.8, 0.6, 0.9, 0.4]
    return [{"lambda": scale, "common": share} for scale, share in pairs(scales, shares, k)]


ISO_CTS = register(
    Method(
        name="iso_cts",
        paper="2502.04959",
        summary="as iso_c, the least directions given to what single tasks have of their own",
        parameters=(
            Parameter("common", "number", 0.8, "share of directions taken from the sum of tasks", low=0.0, high=1.0),
            LAMBDA,
        ),
        base="needed",
        reference=reference,
        stream=stream,
        torch=True,
        candidates=candidates,
        idempotent=False,
    )
)
