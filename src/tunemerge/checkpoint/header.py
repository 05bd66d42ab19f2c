"""The header of a safetensors file, read as data and checked completely before anything trusts it.

A file is eight bytes of header length, that many bytes of JSON, then the tensors' bytes. The tensors must
cover the rest of the file exactly, without holes or overlaps, so a file that was cut short or carries
something extra is found here and not as garbage in a model.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tunemerge.checkpoint.dtypes import NUMPY
from tunemerge.errors import CheckpointError

MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: dtype as safetensors names it, shape, and the byte range [start, end) within its file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What one file holds: tensors by name, in the order of the header, and the free-form metadata."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Raises CheckpointError, naming the file and the tensor, unless every byte of the file is accounted for."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8:
                _refuse(path, f"{size} bytes is too short for a safetensors file")
            if length > MAX_HEADER or 8 + length > size:
                text = f"cut off inside the header: {8 + length:,} bytes expected, {size:,} found; copy it again"
                if length > MAX_HEADER:
                    text = f"not a safetensors file: its header would be {length:,} bytes long"
                _refuse(path, _something_else(path) or text)
            raw = file.read(length)
    except OSError as problem:
        _refuse(path, problem.strerror or str(problem))
    return _parse(path, raw, 8 + length, size)


def _parse(path: Path, raw: bytes, data_start: int, size: int) -> Header:
    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as problem:
        _refuse(path, _something_else(path) or f"not a safetensors file: its header is not JSON ({problem})")
    if not isinstance(entries, dict):
        _refuse(path, "its header is not a JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "__metadata__ must map text to text")
    tensors = {name: _tensor(path, name, entry, data_start) for name, entry in entries.items()}
    position = data_start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            kind = "overlaps the one before it" if info.start < position else "leaves a hole before it"
            _refuse(path, f"tensor {name!r} {kind} (starts at byte {info.start:,}, expected {position:,})")
        position = info.end
    if position > size:
        missing = position - size
        _refuse(path, f"truncated: {position:,} bytes expected, {size:,} found ({missing:,} missing); copy it again")
    if position < size:
        _refuse(path, f"{size - position:,} bytes after the last tensor belong to nothing")
    return Header(tensors, metadata)


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"tensor {name!r} must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY:
        _refuse(path, f"tensor {name!r} has the unknown dtype {dtype!r}")
    if not isinstance(shape, list) or not all(_is_count(n) for n in shape):
        _refuse(path, f"tensor {name!r} has the shape {shape!r}, not a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        _refuse(path, f"tensor {name!r} has the data_offsets {offsets!r}, not [begin, end]")
    needed = math.prod(shape) * NUMPY[dtype].itemsize
    if offsets[1] - offsets[0] != needed:
        _refuse(
            path, f"tensor {name!r} of shape {shape} in {dtype} needs {needed:,} bytes, not {offsets[1] - offsets[0]:,}"
        )
    return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return out


def _something_else(path: Path) -> str | None:
    """What the file is instead, where its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "a pickle (PyTorch) file under another name, which is not read; save it again as safetensors"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if start[:15].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not a model file; download it again"
    return None


def _refuse(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}")
