"""Which example is trained on when: known before training starts, a pure function of seed and lengths."""

from __future__ import annotations

import numpy as np

WINDOW = 50


def training_order(lengths: np.ndarray, examples: int, batch_size: int, seed: int, grouping: bool = True) -> np.ndarray:
    """Row numbers, int64 (examples,): one permutation of all rows after the other, the last one cut short.

    With `grouping`, each permutation is cut into windows of 50 batches, a window is sorted by length into batches, and
    its batches come in random order; so a batch pads little, and every row is still seen once an epoch. Batches are
    consecutive runs of `batch_size`; one that spans two epochs is filled up ungrouped.
    """
    generator = np.random.default_rng([seed, 0x7D])
    parts: list[np.ndarray] = []
    done = 0
    while done < examples:
        epoch = generator.permutation(len(lengths))[: examples - done]
        if grouping:
            begun = -done % batch_size
            parts += [epoch[:begun], _grouped(epoch[begun:], lengths, batch_size, generator)]
        else:
            parts.append(epoch)
        done += len(epoch)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _grouped(rows: np.ndarray, lengths: np.ndarray, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """The same rows; whole batches of like length first, in random order, then the odd rows that fill no batch."""
    whole = len(rows) - len(rows) % batch_size
    parts = []
    for start in range(0, whole, WINDOW * batch_size):
        window = rows[start : min(start + WINDOW * batch_size, whole)]
        batches = window[np.argsort(-lengths[window], kind="stable")].reshape(-1, batch_size)
        parts.append(batches[generator.permutation(len(batches))].ravel())
    return np.concatenate([*parts, rows[whole:]])
