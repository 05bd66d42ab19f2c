"""Forward passes over encoded rows: logits in row order, whatever the order of the batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tunemerge.tasks.batching import Encoded, by_length
from tunemerge.tasks.precision import autocast

BATCH = 32


def logits(
    model: Any,
    encoded: Encoded,
    precision: str,
    progress: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray:
    """float64 (rows, labels). The model is put into evaluation mode and left in the mode it had.

    Batches are made by length alone, so the same rows give the same bits.
    """
    import torch

    device = next(model.parameters()).device
    was_training, out, done = model.training, None, 0
    model.eval()
    # One autocast region for all batches: within it, a weight is rounded to bfloat16 only once.
    with torch.no_grad(), autocast(precision, device.type):
        for rows in by_length(encoded.lengths, BATCH):
            inputs = {name: torch.from_numpy(a).to(device) for name, a in encoded.batch(rows).items()}
            values = model(**inputs).logits.double().cpu().numpy()
            out = np.empty((len(encoded), values.shape[1])) if out is None else out
            out[rows] = values
            done += len(rows)
            progress(done / len(encoded))
    model.train(was_training)
    assert out is not None
    return out
