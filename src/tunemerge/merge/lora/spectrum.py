"""The best low-rank approximation of a matrix, through the eigenvectors of its smaller Gram matrix.

In float64 these are the singular vectors to the accuracy that float32 data has, at a tenth of the cost of an SVD, and a
tall matrix (an embedding) is only ever read in pieces. Memory: the square of the smaller side, and the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunemerge.checkpoint.dtypes import Array
from tunemerge.merge.spectral import find_device

if TYPE_CHECKING:
    import torch

Pieces = Callable[[], Iterator[Array]]
"""Yields the rows of a tall matrix, float64, in order, some at a time; may be asked again."""

_COMPLETE = 1 - 1e-12


@dataclass(frozen=True)
class Approximation:
    """left (rows, rank) @ right (rank, columns), with the square roots of the singular values in both.

    `energy` is the share of the squared norm that it keeps; `norm` is that of the whole matrix.
    """

    left: Array
    right: Array
    energy: float
    norm: float

    @property
    def rank(self) -> int:
        return int(self.left.shape[1])

    @property
    def complete(self) -> bool:
        """Whether nothing but rounding is lost."""
        return self.energy >= _COMPLETE


def approximate(rows: Pieces, columns: int, most: int, energy: float | None, device: str = "auto") -> Approximation:
    """The best approximation of rank at most `most`; with `energy`, of the smallest rank that keeps this share.

    A rank-deficient matrix gets no more than its rank; a matrix of zeros, or one with NaN or Inf, rank 0.
    """
    import torch

    device = find_device(device)
    gram = torch.zeros(columns, columns, dtype=torch.float64, device=device)
    for piece in rows():
        block = torch.from_numpy(piece).to(device)
        gram += block.T @ block
    total = float(gram.trace())
    if not total > 0 or not np.isfinite(total):
        return Approximation(np.zeros((0, 0)), np.zeros((0, columns)), 1.0, float(np.sqrt(total)))
    values, vectors = _largest(gram, most)
    del gram
    noise = values[0] * columns * np.finfo(np.float64).eps * 4
    rank = int((values > noise).sum())
    if energy is not None:
        reached = np.cumsum(values) >= min(energy, _COMPLETE) * total
        rank = min(rank, int(reached.argmax()) + 1 if reached.any() else most)
    basis = vectors[:, :rank]
    left = np.concatenate([(torch.from_numpy(piece).to(device) @ basis).cpu().numpy() for piece in rows()])
    sizes = np.linalg.norm(left, axis=0)
    roots = np.sqrt(sizes)
    right = basis.T.cpu().numpy() * roots[:, None]
    return Approximation(left / roots, right, min(1.0, float((sizes**2).sum()) / total), float(np.sqrt(total)))


def _largest(gram: torch.Tensor, most: int) -> tuple[Array, Any]:
    """The `most` largest eigenvalues, falling, and their vectors as columns, each with its largest entry positive."""
    import torch

    columns = gram.shape[0]
    if gram.device.type == "cpu" and most < columns:
        from scipy.linalg import eigh

        found, vectors = eigh(gram.numpy(), subset_by_index=(columns - most, columns - 1), driver="evr")
        values, basis = torch.from_numpy(found), torch.from_numpy(vectors)
    else:
        values, basis = torch.linalg.eigh(gram)
    values, basis = values.flip(0)[:most], basis.flip(1)[:, :most]
    ends = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return values.cpu().numpy(), basis * torch.where(ends < 0, -1.0, 1.0)
