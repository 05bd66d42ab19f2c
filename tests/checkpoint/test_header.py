from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.header import MAX_HEADER, read_header
from tunemerge.errors import CheckpointError


def file_of(path: Path, header: Any, data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_sound_file(tmp_path: Path) -> None:
    header = {"b": entry(0, 12, [3]), "a": entry(12, 20, [2, 2], "BF16"), "__metadata__": {"format": "pt"}}
    path = file_of(tmp_path / "m.safetensors", header, bytes(20))
    found = read_header(path)
    data = path.stat().st_size - 20
    assert list(found.tensors) == ["b", "a"]
    assert found.tensors["a"].dtype == "BF16" and found.tensors["a"].shape == (2, 2)
    assert (found.tensors["a"].start, found.tensors["a"].end) == (data + 12, data + 20)
    assert found.tensors["a"].size == 4 and found.metadata == {"format": "pt"}


def test_empty_tensors_and_scalars(tmp_path: Path) -> None:
    header = {"none": entry(4, 4, [0, 7]), "one": entry(0, 4, [])}
    found = read_header(file_of(tmp_path / "m", header, bytes(4)))
    assert found.tensors["none"].size == 0 and found.tensors["one"].size == 1


def test_what_torch_s_own_library_writes(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    state = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.arange(3), "half": np.ones(5, np.float16)}
    save_file(state, tmp_path / "m.safetensors", metadata={"k": "v"})
    found = read_header(tmp_path / "m.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in found.tensors.items()} == {
        "x": ("F32", (2, 3)),
        "ids": ("I64", (3,)),
        "half": ("F16", (5,)),
    }


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": entry(0, 8, [3])}, 8, "needs 12 bytes, not 8"),
        ({"a": entry(0, 12, [3])}, 11, "truncated: .* found .1 missing"),
        ({"a": entry(0, 12, [3])}, 13, "1 bytes after the last tensor"),
        ({"a": entry(4, 16, [3])}, 16, "'a' leaves a hole"),
        ({"a": entry(0, 12, [3]), "b": entry(8, 20, [3])}, 20, "'b' overlaps"),
        ({"a": entry(0, 12, [3], "F33")}, 12, "unknown dtype 'F33'"),
        ({"a": entry(0, 12, [-3])}, 12, r"shape \[-3\]"),
        ({"a": entry(0, 12, [True, 3])}, 12, "not a list of sizes"),
        ({"a": entry(0, 12, [2**70])}, 12, "not a list of sizes"),
        ({"a": entry(12, 0, [3])}, 12, "needs 12 bytes, not -12"),
        ({"a": {**entry(0, 12, [3]), "x": 1}}, 12, "must have exactly"),
        ({"a": 3}, 0, "'a' is not followed by a whole object"),
        ({"a": {}}, 0, "must have exactly"),
        ({"a": entry(0, 0, [2**62, 2**62, 0])}, 0, "more bytes than 63 bits count"),
        ({"a": entry(0, 0, [0, 2**62])}, 0, "more bytes than 63 bits count"),
        ({"a": entry(0, 4, [1] * 65)}, 4, "65 dimensions; at most 64"),
        ({"__metadata__": {"a": 1}}, 0, "must map text to text"),
        ([1], 0, "not an object"),
        (b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"shape":[0]}}', 0, "'shape' is there twice"),
        (b'{"__metadata__":{},"__metadata__":{}}', 0, "'__metadata__' is there twice"),
        (b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}', 0, "negative number"),
        (b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0, "surrogates not allowed"),
        (b"{" * 3000, 0, "not a safetensors file"),
        (b'{"a":' + b"[" * 100_000, 0, "not a safetensors file"),
        (b"\xff\xfe", 0, "not a safetensors file"),
        (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}', 0, "not a safetensors file"),
    ],
)
def test_refused(header: Any, data: int, message: str, tmp_path: Path) -> None:
    path = file_of(tmp_path / "m.safetensors", header, bytes(data))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "too short"),
        (b"\x01\x02", "too short"),
        ((1 << 40).to_bytes(8, "little") + b"x" * 100, "header would be"),
        ((500).to_bytes(8, "little") + b"{}", "cut off inside the header"),
        (b"PK\x03\x04" + bytes(100), "a pickle .*save it again as safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_other_files(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


def test_the_cap_is_the_formats_own() -> None:
    assert MAX_HEADER == 100_000_000
