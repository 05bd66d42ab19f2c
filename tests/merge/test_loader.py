"""What was read of a tensor is kept for the next pass: fewer reads, the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tunemerge.checkpoint.dtypes import NUMPY, from_float32
from tunemerge.checkpoint.source import ArraySource
from tunemerge.merge.blocks import stream_tensor
from tunemerge.merge.method import METHODS, Tensor

SIZE, BLOCK = 1000, 104


@dataclass(frozen=True)
class Counting:
    """A source that knows from where it was read."""

    inner: ArraySource
    starts: list[int] = field(default_factory=list)

    @property
    def dtype(self) -> str:
        return self.inner.dtype

    @property
    def where(self) -> str:
        return self.inner.where

    def read_into(self, buffer: NDArray[Any], start: int) -> None:
        self.starts.append(start)
        self.inner.read_into(buffer, start)


def merged(dtypes: list[str], memory: int | None) -> tuple[bytes, list[int]]:
    """A TIES merge, and how often each source was read; memory in bytes, with what another tensor left in it."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 1, SIZE).astype(np.float32) for _ in dtypes]
    stored = [x.astype(np.float64) if d == "F64" else from_float32(x, d) for x, d in zip(arrays, dtypes, strict=True)]
    sources = [Counting(ArraySource(x, d, f"model {i}")) for i, (x, d) in enumerate(zip(stored, dtypes, strict=True))]
    method, out = METHODS["ties"], np.empty(SIZE, np.float64)
    stream = method.stream(Tensor("t", (SIZE,), len(dtypes) - 1, method.resolve({"density": 0.4}, len(dtypes) - 1)))

    def sink(start: int, part: NDArray[Any]) -> None:
        out[start : start + part.size] = part

    room = None if memory is None else np.full(memory, 0x5A, np.uint8)
    stream_tensor(stream, sources[:-1], sources[-1], (SIZE,), "F64", sink, BLOCK, memory=room)
    assert stream.passes == 2
    return out.tobytes(), [len(source.starts) for source in sources]


@pytest.mark.parametrize(
    "dtypes",
    [["BF16"] * 4, ["F16"] * 3, ["BF16", "F16", "BF16"], ["F32", "F16", "F64", "BF16"], ["BF16", "F32", "F32"]],
    ids="-".join,
)
def test_what_fits_is_read_once_and_no_bit_differs(dtypes: list[str]) -> None:
    plain, reads = merged(dtypes, None)
    blocks = -(-SIZE // BLOCK)
    assert reads == [3 * blocks] * len(dtypes)
    narrow = [d != "F64" for d in dtypes]
    borders = [i for i in range(len(dtypes)) if not i or dtypes[i] != dtypes[i - 1]]
    slot = 0
    for a, b in zip(borders, [*borders[1:], len(dtypes)], strict=True):
        if narrow[a]:
            slot += -(-(b - a) * BLOCK * NUMPY[dtypes[a]].itemsize // 64) * 64
    for slots, kept in ((blocks, blocks), (blocks + 3, blocks), (6, 6), (4, 0), (0, 0)):
        out, reads = merged(dtypes, slots * slot + 1)
        assert out == plain
        assert reads == [3 * blocks - 2 * kept * n for n in narrow], slots
