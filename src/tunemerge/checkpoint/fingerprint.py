"""Is this the same model? A digest of names, shapes and a few values of every tensor, read in milliseconds.

Not proof against intent (that is what digests of files are for), but blind to how a model is cut into shards, and to
whether its values are stored as float32 or bfloat16.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from tunemerge.checkpoint.dtypes import FLOATS, NUMPY, from_float32, to_float32
from tunemerge.checkpoint.source import Model

_STRETCH = 64


def fingerprint(model: Model) -> str:
    """SHA-256 (hex) over the float tensors, of each the first, middle and last 64 values rounded to bfloat16."""
    digest = hashlib.sha256()
    for name, info in sorted(model.tensors.items()):
        if info.dtype not in FLOATS:
            continue
        digest.update(json.dumps([name, info.shape]).encode())
        source, count = model.source(name), min(_STRETCH, info.size)
        values = np.empty(count, NUMPY[source.dtype])
        for start in (0, (info.size - count) // 2, info.size - count):
            source.read_into(values, start)
            digest.update(from_float32(to_float32(values, source.dtype), "BF16").tobytes())
    return digest.hexdigest()
