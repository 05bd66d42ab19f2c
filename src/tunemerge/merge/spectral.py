"""Methods of whole matrices: what those share that take a task vector apart by its singular vectors.

Everything is float64. On this project's test matrices (deltas of rank 32 in noise, 384 to 2048 wide) the product of
singular vectors came out wrong by 4e-5 to 1e-3 of its largest element from a float32 SVD, by up to 7e-8 from the
eigenvectors of a float64 Gram matrix, and by at most 3e-11 as it is done here: an SVD of the triangle of a QR
decomposition, which for an embedding (30,522 x 384) takes 1.1 s instead of 1.9 s, and about as long as the Gram matrix.

Singular values that are zero to rounding have no singular vectors here: any orthogonal vectors would do for them, so
what is built from them would be up to the library. Signs of singular vectors cancel in every result.

Memory: `MATRIX_BYTES` for every element of the largest matrix, whatever the number of models, beside the engine's own
copies of the models. On the CPU a matrix is worked on by one thread, since LAPACK's last bits depend on their number;
several matrices are worked on at once. On a GPU results may differ from the CPU's by the rounding of float64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from tunemerge.merge.method import Block, Single, Tensor, Unit
from tunemerge.merge.parameters import Values
from tunemerge.tasks.precision import torch_device

if TYPE_CHECKING:
    import torch

MATRIX_BYTES = 96
"""At most twelve float64 numbers an element are held at once; measured: 7 to 12 with 4 million elements."""


class Deltas:
    """The task vectors of one matrix, each (rows, columns) in float64 on the device, made anew whenever asked for."""

    def __init__(self, block: Block, shape: tuple[int, ...], device: str) -> None:
        self._block, self._device = block, device
        self.shape: tuple[int, int] = (shape[0], shape[1])

    def __len__(self) -> int:
        return len(self._block.rows)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for row in self._block.rows:
            yield self._placed(np.subtract(row, self._block.deltas_from, dtype=np.float64))

    def total(self) -> torch.Tensor:
        """Their sum, the same bits in any order of the models."""
        from tunemerge.merge.kernels.deltas import sum_deltas

        out = np.empty(self._block.out.size)
        sum_deltas(self._block.rows, self._block.deltas_from, out)
        return self._placed(out)

    def _placed(self, flat: np.ndarray[tuple[int], np.dtype[np.float64]]) -> torch.Tensor:
        import torch

        return torch.from_numpy(flat.reshape(self.shape)).to(self._device)


TaskMatrix = Callable[[Deltas, Values], "torch.Tensor"]
"""Merges the task vectors of a matrix into one, float64 (rows, columns)."""


class SpectralStream(Single):
    """base + lambda * the merged task vector of a matrix; of other tensors, + lambda * the mean of the task vectors.

    A matrix has two dimensions and any elements; `matrix` False: treat it as another tensor all the same.
    """

    def __init__(self, tensor: Tensor, merge: TaskMatrix, matrix: bool = True) -> None:
        self._tensor, self._merge = tensor, merge
        self._scale: float = tensor.values["lambda"]
        self.unit: Unit = "tensor" if matrix and len(tensor.shape) == 2 and tensor.size else "element"
        self._shares = np.full((1, tensor.n_models), self._scale / tensor.n_models)

    def apply(self, block: Block) -> None:
        if self.unit == "element":
            from tunemerge.merge.kernels.span import add_rows

            add_rows(block.rows, block.deltas_from, block.out.size, self._shares, block.out)
            return
        import torch

        device = find_device(self._tensor.device)
        with one_thread() if device == "cpu" else nullcontext(), torch.no_grad():
            merged = self._merge(Deltas(block, self._tensor.shape, device), self._tensor.values)
            base = torch.from_numpy(block.deltas_from).to(device).reshape(merged.shape)
            block.out[:] = merged.mul(self._scale).add_(base).reshape(-1).cpu().numpy()


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(rows, rank) left vectors, (rank,) singular values, falling, (columns, rank) right vectors.

    The rank is the numerical one: of a matrix of zeros, 0.
    """
    import torch

    rows, columns = matrix.shape
    if rows < columns:
        right, sizes, left = svd(matrix.T)
        return left, sizes, right
    core = torch.linalg.qr(matrix, mode="r").R if rows > columns else matrix
    left, sizes, turned = torch.linalg.svd(core, full_matrices=False)
    rank = int((sizes > sizes[:1] * rows * torch.finfo(matrix.dtype).eps).sum())
    left, sizes, right = left[:, :rank], sizes[:rank], turned[:rank].T
    if core is not matrix:
        left = (matrix @ right).div_(sizes)
    return left, sizes, right


def polar(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix whose singular values are all 1 (or 0, where they are 0 to rounding)."""
    left, _, right = svd(matrix)
    return left @ right.T


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """The columns of all parts side by side; the list is emptied, so that only one copy is left."""
    import torch

    whole = torch.cat(parts, dim=1)
    parts.clear()
    return whole


def find_device(asked: str) -> str:
    """Where torch computes: "cpu", "cuda", or by "auto", which is the default everywhere, a GPU where there is one.

    Apple's GPUs have no float64 and are not used.
    """
    return torch_device() if asked == "auto" else asked


_guard = threading.Lock()
_inside = 0
_threads_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on the calling thread alone; its setting is put back when the last caller leaves."""
    import torch

    global _inside, _threads_before
    with _guard:
        if not _inside:
            _threads_before = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _guard:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_threads_before)
