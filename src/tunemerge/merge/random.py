"""Random masks that depend on what is masked and on nothing else.

Every element's draw is a hash of (seed, method, model index, tensor name, position), so blocks, threads, shards
and the order of tensors change nothing. This is the readable form; `kernels.select.mask_random` is the fast one.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONE_OF_32_BITS = 1 << 32


def stream_key(seed: int, method: str, model: int, tensor: str) -> np.uint64:
    """The 64-bit key of one model's stream of draws for one tensor."""
    text = f"{seed}\0{method}\0{model}\0{tensor}"
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "little"))


def keep_threshold(share: float) -> np.uint64:
    """A 32-bit draw below this keeps its element; shares 0 and 1 keep nothing and everything."""
    return np.uint64(round(share * _ONE_OF_32_BITS))


def draws(key: np.uint64, size: int) -> NDArray[np.uint64]:
    """`size` random numbers of 32 bits.

    Element p takes the lower (p even) or upper (p odd) 32 bits of splitmix64's number p // 2 of stream `key`.
    """
    counter = np.arange((size + 1) // 2, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = key + (counter + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.stack([z & np.uint64(0xFFFFFFFF), z >> np.uint64(32)], axis=1).reshape(-1)[:size]


def keep_mask(key: np.uint64, size: int, share: float) -> NDArray[np.bool_]:
    """Which of `size` elements stay, each with probability `share`."""
    return draws(key, size) < keep_threshold(share)


def share_range(density: float, epsilon: float) -> tuple[float, float]:
    """DELLA's keep-probability of the smallest element of a row, and what the largest has more."""
    return (density - epsilon, 2 * epsilon) if 0 < density < 1 else (density, 0.0)


def rank_thresholds(density: float, epsilon: float, columns: int) -> NDArray[np.uint64]:
    """For each rank in a row of that length, the smallest first: a 32-bit draw below this keeps its element.

    The probability rises linearly from density - epsilon to density + epsilon; a single element has `density`.
    """
    low, span = share_range(density, epsilon)
    if columns <= 1:
        low, span = density, 0.0
    shares = low + span / max(columns - 1, 1) * np.arange(columns)
    return np.ceil(shares * _ONE_OF_32_BITS).astype(np.uint64)
