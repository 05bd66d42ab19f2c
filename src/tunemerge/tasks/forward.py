"""Forward passes over encoded rows: predictions in row order, whatever the order of the batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tunemerge.tasks.batching import Inputs, by_length
from tunemerge.tasks.precision import autocast
from tunemerge.tasks.task import Loaded, kind_of

BATCH = 32


def predictions(
    model: Loaded,
    encoded: Inputs,
    precision: str,
    progress: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray:
    """float64 (rows, k), as the kind's `predictions` says. The model is put into evaluation mode and left in the mode
    it had.

    Batches are made by length alone, so the same rows give the same bits.
    """
    import torch

    net, kind = model.net, kind_of(model.spec)
    device = next(net.parameters()).device
    was_training, out, done = net.training, None, 0
    net.eval()
    # One autocast region for all batches: within it, a weight is rounded to bfloat16 only once.
    with torch.no_grad(), autocast(precision, device.type):
        for rows in by_length(encoded.lengths, BATCH):
            inputs = {name: torch.from_numpy(a).to(device) for name, a in encoded.batch(rows).items()}
            values = kind.predictions(model, kind.forward(model, inputs), inputs).double().cpu().numpy()
            out = np.empty((len(encoded), values.shape[1])) if out is None else out
            out[rows] = values
            done += len(rows)
            progress(done / len(encoded))
    net.train(was_training)
    assert out is not None
    return out
