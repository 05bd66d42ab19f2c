"""NaN and Inf in weights: one of them makes a whole merge useless."""

from __future__ import annotations

import numpy as np

from tunemerge.checkpoint.dtypes import FLOATS, NUMPY, Array
from tunemerge.checkpoint.model import Checkpoint
from tunemerge.checkpoint.reader import FileReader
from tunemerge.errors import CheckpointError
from tunemerge.findings import Finding, error

_PIECE = 1 << 20


def finite_findings(name: str, model: Checkpoint) -> list[Finding]:
    """An error for each tensor with NaN or Inf, with how many and where the first one is. Reads every weight."""
    findings: list[Finding] = []
    for file in model.files:
        with FileReader(model.folder / file) as reader:
            for tensor, (info, where) in sorted(model.located.items()):
                if where != file or info.dtype not in FLOATS:
                    continue
                try:
                    bad = _bad_elements(reader, info.dtype, info.start, info.size)
                except CheckpointError as problem:
                    return [*findings, error("checkpoint-unreadable", str(problem), name)]
                if bad:
                    text = f"{model.folder / file}: {tensor} has {bad[0]:,} NaN or Inf, the first at element {bad[1]:,}"
                    fix = "take an earlier checkpoint: this training diverged, or the file is damaged"
                    findings.append(error("weights-not-finite", text, name, fix))
    return findings


def _bad_elements(reader: FileReader, dtype: str, start: int, size: int) -> tuple[int, int] | None:
    """(how many, position of the first)."""
    count, first = 0, -1
    for at in range(0, size, _PIECE):
        piece = np.empty(min(_PIECE, size - at), NUMPY[dtype])
        reader.read_into(piece, start + at * piece.itemsize)
        bad = _nonfinite(piece, dtype)
        if bad.any():
            first = at + int(bad.argmax()) if first < 0 else first
            count += int(bad.sum())
    return (count, first) if count else None


def _nonfinite(piece: Array, dtype: str) -> Array:
    if dtype == "BF16":
        return np.asarray((piece & np.uint16(0x7F80)) == np.uint16(0x7F80))
    return np.asarray(~np.isfinite(piece))
