"""The header of a safetensors file, read as data and checked completely before anything trusts it.

A file is eight bytes of header length, that many bytes of JSON, then the tensors' bytes. The tensors must
cover the rest of the file exactly, without holes or overlaps, so a file that was cut short or carries
something extra is found here and not as garbage in a model.

What is accepted here, the safetensors library accepts too, with the same answer.
"""

from __future__ import annotations

import errno
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tunemerge.checkpoint.dtypes import NUMPY
from tunemerge.checkpoint.entries import checked_text, entries, parse, short
from tunemerge.errors import CheckpointError, TunemergeError

MAX_HEADER = 100_000_000
MAX_METADATA = 16_000_000
MAX_ENTRY = 4_096
"""Bytes of a tensor's dtype, shape and offsets: three times what 64 dimensions take."""
MAX_DIMENSIONS = 64
"""What NumPy and torch can hold."""

_WRONG_PATH = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
}


@dataclass(frozen=True, slots=True)
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
    """Raises CheckpointError, naming the file and the tensor, unless every byte of the file is accounted for.

    TunemergeError where the disk does not give the bytes.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            _refuse(path, "not a plain file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(64)
            if size < 8:
                _refuse(path, f"{size} bytes is too short for a safetensors file")
            length = int.from_bytes(start[:8], "little")
            if length > MAX_HEADER or 8 + length > size:
                text = f"cut off inside the header: {8 + length:,} bytes expected, {size:,} found; copy it again"
                if length > MAX_HEADER:
                    text = f"not a safetensors file: its header would be {length:,} bytes long"
                _refuse(path, _something_else(start) or text)
            file.seek(8)
            raw = file.read(length)
    except OSError as problem:
        raise unreadable(path, problem) from problem
    try:
        tensors, metadata = _parse(path, raw, 8 + length)
    except (ValueError, RecursionError) as problem:
        _refuse(path, _something_else(start) or f"not a safetensors file: its header is not sound JSON ({problem})")
    _check_cover(path, tensors, 8 + length, size)
    return Header(tensors, metadata)


def unreadable(where: object, problem: OSError) -> TunemergeError:
    """The error to raise: CheckpointError for a path that is wrong, and for a disk that fails one of exit code 1."""
    kind = CheckpointError if problem.errno in _WRONG_PATH else TunemergeError
    return kind(f"{where}: {problem.strerror or problem}")


def _parse(path: Path, raw: bytes, data_start: int) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] | None = None
    for name, text in entries(raw, lambda name: MAX_METADATA if name == "__metadata__" else MAX_ENTRY):
        entry = parse(text)
        if name in tensors or (name == "__metadata__" and metadata is not None):
            raise ValueError(f"{short(name)} is there twice")
        if name == "__metadata__":
            if not all(isinstance(value, str) for value in entry.values()):
                _refuse(path, "__metadata__ must map text to text")
            metadata = {checked_text(key): checked_text(value) for key, value in entry.items()}
        else:
            tensors[name] = _tensor(path, name, entry, data_start)
            if b"-0" in text:  # which JSON reads as 0
                raise ValueError(f"{short(name)} has a negative number")
    return tensors, metadata or {}


def _tensor(path: Path, name: str, entry: dict[str, Any], data_start: int) -> TensorInfo:
    def refuse(message: str) -> NoReturn:
        _refuse(path, f"tensor {short(name)} {message}")

    if entry.keys() != {"dtype", "shape", "data_offsets"}:
        refuse("must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY:
        refuse(f"has the unknown dtype {short(dtype)}")
    if not isinstance(shape, list) or not all(_is_count(n) for n in shape):
        refuse(f"has the shape {short(shape)}, not a list of sizes")
    if len(shape) > MAX_DIMENSIONS:
        refuse(f"has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        refuse(f"has the data_offsets {short(offsets)}, not [begin, end]")
    needed, given = math.prod(shape) * NUMPY[dtype].itemsize, offsets[1] - offsets[0]
    if not _is_count(needed or math.prod(n for n in shape if n) * NUMPY[dtype].itemsize):
        refuse(f"has the shape {short(shape)}, more bytes than 63 bits count")
    if given != needed:
        refuse(f"of shape {short(shape)} in {dtype} needs {needed:,} bytes, not {given:,}")
    return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _check_cover(path: Path, tensors: dict[str, TensorInfo], data_start: int, size: int) -> None:
    position = data_start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            kind = "overlaps the one before it" if info.start < position else "leaves a hole before it"
            _refuse(path, f"tensor {short(name)} {kind} (starts at byte {info.start:,}, expected {position:,})")
        position = info.end
    if position > size:
        missing = position - size
        _refuse(path, f"truncated: {position:,} bytes expected, {size:,} found ({missing:,} missing); copy it again")
    if position < size:
        _refuse(path, f"{size - position:,} bytes after the last tensor belong to nothing")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _something_else(start: bytes) -> str | None:
    """What the file is instead, where its first bytes tell."""
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "a pickle (PyTorch) file under another name, which is not read; save it again as safetensors"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if start[:15].lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not a model file; download it again"
    return None


def _refuse(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{path}: {message}")
