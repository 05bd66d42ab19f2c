"""Thousands of damaged and hostile headers: each is read exactly, as the safetensors library reads it, or refused."""

from __future__ import annotations

import json
import math
import random
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.dtypes import NUMPY
from tunemerge.checkpoint.header import MAX_HEADER, Header, read_header
from tunemerge.checkpoint.model import open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.errors import CheckpointError

CASES = 12_000
MEGABYTE = 1 << 20
STRICTER = re.compile(
    "is there twice|must have exactly|not followed by a whole object|more bytes than 63 bits|at most 64 are read"
    "|in quotes at character|is followed by more than|not a list of sizes|unknown dtype 'F[46]"
)
"""Where the library says yes and we say no: keys twice or unknown, `null` metadata, what NumPy could not hold."""


class Raw(str):
    """JSON as it is to stand in the header, sound or not."""


class Draft:
    """A sound file in pieces, for mutators to damage: tensors as (name, [(key, value), ...]), metadata, framing."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.tensors: list[tuple[Any, list[tuple[str, Any]]]] = []
        self.size = 0
        for number in range(draw.randrange(1, 6)):
            dtype = draw.choice(list(NUMPY))
            shape = [draw.choice([0, 1, 1, 2, 3, 5]) for _ in range(draw.randrange(4))]
            end = self.size + math.prod(shape) * NUMPY[dtype].itemsize
            fields = [("dtype", dtype), ("shape", shape), ("data_offsets", [self.size, end])]
            draw.shuffle(fields)
            self.tensors.append((f"layer.{number}.weight", fields))
            self.size = end
        draw.shuffle(self.tensors)
        self.metadata: Any = draw.choice([None, {}, {"format": "pt"}, {"a": '{"b": "}"}', "ä": "\\"}])
        self.before, self.after, self.length_change = b"", b" " * draw.randrange(9), 0
        self.data_change = 0
        self.length: int | None = None

    def any(self) -> tuple[int, list[tuple[str, Any]]]:
        at = self.draw.randrange(len(self.tensors))
        return at, self.tensors[at][1]

    def put(self, key: str, change: Callable[[Any], Any]) -> None:
        """Change one field of one tensor, unless it was made something odd before."""
        _, fields = self.any()
        for at, (name, value) in enumerate(fields):
            sound = type(value) is list and all(type(n) is int for n in value)
            if name == key and (key == "dtype" or (sound and (key == "shape" or len(value) == 2))):
                fields[at] = (key, change(value))

    def bytes(self) -> bytes:
        pairs: list[tuple[Any, Any]] = [(name, Raw(written(fields))) for name, fields in self.tensors]
        if self.metadata is not None:
            pairs.insert(self.draw.randrange(len(pairs) + 1), ("__metadata__", self.metadata))
        header = self.before + written(pairs).encode("utf-8", "surrogateescape") + self.after
        length = len(header) + self.length_change if self.length is None else self.length
        data = bytes(self.draw.randbytes(max(0, self.size)))
        data = data[: self.data_change] if self.data_change < 0 else data + bytes(self.data_change)
        return max(0, length).to_bytes(8, "little") + header + data


def written(pairs: list[tuple[Any, Any]]) -> str:
    return "{" + ",".join(f"{one(key)}:{one(value)}" for key, value in pairs) + "}"


def one(value: Any) -> str:
    return str(value) if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)


ODD = [
    *(None, True, "", "x", "3", 1.0, 1e3, -1, [], [[]], [None], ["1"], [1.5], [True], {}, {"a": 1}),
    *(Raw("-0"), Raw("[-0]"), Raw("[0,-0]"), Raw("NaN"), Raw("[Infinity,0]"), Raw("01"), Raw("1e2"), Raw("'x'")),
    *(Raw(""), Raw("[1,]"), Raw("[1 2]"), Raw("{"), Raw("}"), Raw('"'), Raw("[" * 50), Raw("[" * 2000 + "]" * 2000)),
]
HUGE = [2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, Raw("9" * 5000)]
NAMES: list[Any] = [
    *("", "\0", "a\0b", "__metadata__", "ä/../b", "../../etc/passwd", "layer.0.weight", "n" * 5000, '{}[]:,\\"'),
    *(Raw(r'"\ud800"'), Raw(r'"\udc80\ud800"'), Raw(r'"\ud83d\ude00"'), Raw(r'"\u0000"'), Raw('"\udcff\udcfe"')),
    *(Raw('"\udcc0\udcaf"'), Raw('"\t"'), Raw('"a'), Raw(r'"\x"'), Raw("1"), Raw("null"), Raw(r'"\"')),
]


def _shift(at: int, by: int) -> Callable[[Any], Any]:
    return lambda offsets: [n + by if i == at else n for i, n in enumerate(offsets)]


def _cut(d: Draft) -> None:
    d.data_change = -d.draw.randrange(1, 30)


def _extend(d: Draft) -> None:
    d.data_change = d.draw.choice([1, 3, 4, 100])


def _move(d: Draft) -> None:
    """Overlaps and holes: one end, or the whole range, goes elsewhere."""
    by = d.draw.choice([-8, -4, -1, 1, 2, 4, 8, 1000, 2**40])
    d.put("data_offsets", d.draw.choice([_shift(0, by), _shift(1, by), lambda o: [n + by for n in o]]))


def _swap(d: Draft) -> None:
    d.put("data_offsets", lambda o: o[::-1])


def _steal(d: Draft) -> None:
    """Two tensors that claim the same bytes, or each other's."""
    (_, one_), (_, two) = d.any(), d.any()
    given = dict(one_).get("data_offsets", [0, 0])
    two[:] = [(k, given if k == "data_offsets" else v) for k, v in two]


def _huge(d: Draft) -> None:
    n = d.draw.choice(HUGE)
    d.put(
        d.draw.choice(["shape", "data_offsets"]),
        lambda v: Raw("[" + ",".join(map(str, [*v[:-1], n])) + "]"),
    )


def _overflow(d: Draft) -> None:
    shapes = [[2**32, 2**32], [2**62, 2**62, 0], [0, 2**62], [0, 2**63], [0, 2**60], [2**63, 2], [1] * 70, [1] * 64]
    shape = d.draw.choice(shapes)
    d.put("shape", lambda _: shape)
    if d.draw.random() < 0.5:
        d.put("data_offsets", lambda o: [o[0], o[0]])


def _reshape(d: Draft) -> None:
    d.put("shape", lambda s: d.draw.choice([[*s, 1], [*s, 2], [*s, 0], s[1:], s[::-1], [n + 1 for n in s], [7]]))


def _retype(d: Draft) -> None:
    d.put("dtype", lambda _: d.draw.choice(["F33", "f32", "", "F32 ", "BF32", "F4", "F6_E2M3", "x" * 4000, *NUMPY]))


def _odd(d: Draft) -> None:
    d.put(d.draw.choice(["dtype", "shape", "data_offsets"]), lambda _: d.draw.choice(ODD))


def _key(d: Draft) -> None:
    _, fields = d.any()
    at = d.draw.randrange(len(fields))
    match d.draw.randrange(4):
        case 0:
            del fields[at]
        case 1:
            fields.append(fields[at])
        case 2:
            fields.append((d.draw.choice(["x", "", "Shape", "strides"]), d.draw.choice(ODD)))
        case 3:
            fields[at] = (fields[at][0].upper(), fields[at][1])


def _double(d: Draft) -> None:
    at, _ = d.any()
    d.tensors.append(d.tensors[at])


def _drop(d: Draft) -> None:
    at, _ = d.any()
    if len(d.tensors) > 1:
        del d.tensors[at]


def _name(d: Draft) -> None:
    at, fields = d.any()
    d.tensors[at] = (d.draw.choice(NAMES), fields)


def _no_tensor(d: Draft) -> None:
    """Something else in place of what a tensor is."""
    at, _ = d.any()
    value = d.draw.choice([*ODD, Raw('{"a":' * 900 + "1" + "}" * 900)])
    d.tensors.append((d.draw.choice(["extra", d.tensors[at][0]]), [(Raw('"dtype"'), value)]))
    if d.draw.random() < 0.5:
        d.metadata = value


def _metadata(d: Draft) -> None:
    bad = [*ODD, {"a": 1}, {"a": None}, {"a": {}}, {"a": ["b"]}, Raw('{"a":"b","a":"c"}'), Raw(r'{"a":"\ud800"}')]
    d.metadata = d.draw.choice([*bad, Raw(r'{"\udfff":"a"}'), {"k" * 3000: "v" * 9000}, {"": ""}, {"\0": "\0"}])


def _length(d: Draft) -> None:
    if d.draw.random() < 0.5:
        d.length_change = d.draw.choice([-1000, -9, -2, -1, 1, 2, 9, 1000])
    else:
        d.length = d.draw.choice([0, 1, 2, 7, MAX_HEADER - 1, MAX_HEADER, MAX_HEADER + 1, 2**40, 2**63, 2**64 - 1])


def _around(d: Draft) -> None:
    if d.draw.random() < 0.5:
        d.before = d.draw.choice([b" ", b"\n\t", b"\xef\xbb\xbf", b"\0", b"[", b"{", b",", b"{}"])
    else:
        d.after = d.draw.choice([b"\0", b"\0\0\0", b"}", b",", b"{}", b"\x0b", b"\n\r\t ", b"\xff"])


MUTATORS = [
    *(_cut, _extend, _move, _swap, _steal, _huge, _overflow, _reshape, _retype, _odd, _key, _double, _drop),
    *(_name, _no_tensor, _metadata, _length, _around),
]


def scribbled(raw: bytes, draw: random.Random) -> bytes:
    """Bytes of the header flipped, cut out, put in."""
    out = bytearray(raw)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(out))
        match draw.randrange(4):
            case 0:
                out[at] ^= 1 << draw.randrange(8)
            case 1:
                out[at] = draw.randrange(256)
            case 2:
                del out[at : at + draw.randrange(1, 9)]
            case 3:
                out[at:at] = bytes(draw.choices(b'0123456789[]{},":-e.\\nu\xff\0', k=3))
        if not out:
            break
    if draw.random() < 0.7:  # the length agrees again, so that what follows is looked at
        length = int.from_bytes(raw[:8], "little") + len(out) - len(raw)
        out[:8] = (length % 2**64).to_bytes(8, "little")
    return bytes(out)


def case(number: int) -> tuple[str, bytes]:
    """The name of what was done to a file, and the file."""
    draw = random.Random(number)
    draft, done = Draft(draw), []
    if number % 20 == 0:
        return "nothing", draft.bytes()
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        mutator = draw.choice(MUTATORS)
        mutator(draft)
        done.append(mutator.__name__)
    raw = draft.bytes()
    if number % 4 == 1:
        return "scribbled", scribbled(Draft(draw).bytes() if draw.random() < 0.5 else raw, draw)
    return "+".join(done), raw


def library(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes | None]] | None:
    """What the safetensors library finds: dtype, shape, and bytes where NumPy can hold them; None where it refuses."""
    import safetensors

    plain = {name for name in NUMPY if not name.startswith("F8") and name != "BF16"}
    try:
        with safetensors.safe_open(path, "numpy") as file:
            out = {}
            for name in file.keys():  # noqa: SIM118 (not a dict)
                part = file.get_slice(name)
                try:
                    data = file.get_tensor(name).tobytes() if part.get_dtype() in plain else None
                except ValueError:  # 70 dimensions, or (0, 2**62)
                    data = None
                out[name] = (part.get_dtype(), tuple(part.get_shape()), data)
            return out
    except safetensors.SafetensorError:
        return None


def assert_exact(header: Header, raw: bytes) -> None:
    """The tensors cover the file, each with the bytes that its shape and dtype need, and could be held."""
    start = 8 + int.from_bytes(raw[:8], "little")
    ranges = sorted((t.start, t.end) for t in header.tensors.values())
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert (ranges[0][0], ranges[-1][1]) == (start, len(raw)) if ranges else start == len(raw)
    for name, t in header.tensors.items():
        assert isinstance(name, str) and all(type(n) is int and n >= 0 for n in (*t.shape, t.start, t.end))
        assert t.end - t.start == t.size * NUMPY[t.dtype].itemsize
        assert np.empty(t.shape, NUMPY[t.dtype]).nbytes == t.end - t.start
    assert all(isinstance(text, str) for pair in header.metadata.items() for text in pair)


def test_twelve_thousand_headers(quick_path: Path) -> None:
    path, seen, stricter = quick_path / "model.safetensors", Counter[str](), 0
    for number in range(CASES):
        what, raw = case(number)
        path.write_bytes(raw)
        theirs = library(path)
        try:
            found = read_header(path)
        except CheckpointError as problem:
            message = str(problem)
            assert message.startswith(f"{path}: ") and len(message) < len(str(path)) + 500, what
            assert what != "nothing", message
            if theirs is not None:
                stricter += 1
                assert STRICTER.search(message), (number, what, message)
            seen["refused"] += 1
            continue
        seen["accepted"] += 1
        assert_exact(found, raw)
        assert theirs is not None, (number, what, "the library refuses this file")
        assert theirs.keys() == found.tensors.keys()
        for name, (dtype, shape, data) in theirs.items():
            info = found.tensors[name]
            assert (info.dtype, info.shape) == (dtype, shape), (number, what)
            assert data is None or data == raw[info.start : info.end], (number, what)
    assert seen["accepted"] > CASES // 20 and seen["refused"] > CASES // 2
    assert 0 < stricter < CASES // 10


def test_the_fuzzing_reaches_every_refusal(quick_path: Path) -> None:
    """Or thousands of cases would all fail at the first check."""
    path, messages = quick_path / "model.safetensors", set()
    for number in range(0, CASES, 3):
        path.write_bytes(case(number)[1])
        try:
            read_header(path)
        except CheckpointError as problem:
            messages.add(str(problem))
    text = "\n".join(messages)
    for part in (
        *("cut off inside the header", "header would be", "not an object", "in quotes at"),
        *("not followed by a whole object", "is followed by more than", "neither a comma nor", "more after its end"),
        *("is there twice", "must map text to text", "negative number", "must have exactly", "unknown dtype"),
        *("not a list of sizes", "at most 64 are read", r"not \[begin, end\]", "63 bits count", "bytes, not"),
        *("overlaps", "leaves a hole", "truncated", "belong to nothing", "surrogates not allowed", "can't decode"),
    ):
        assert re.search(part, text), part


def peak_of(path: Path) -> tuple[int, str]:
    """Bytes that reading took at its highest beyond what was there, and what it said."""
    tracemalloc.start()
    try:
        read_header(path)
        message = ""
    except CheckpointError as problem:
        message = str(problem)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak, message


@pytest.mark.parametrize("length", [0, 1, 64, 4096, MAX_HEADER, MAX_HEADER + 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("size", [8, 9, 100, 10_000])
def test_a_length_that_lies_costs_no_memory(length: int, size: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + bytes(size - 8))
    peak, message = peak_of(path)
    assert message and peak < MEGABYTE


@pytest.mark.parametrize(
    ("before", "filling", "after"),
    [
        (b'{"a":[', b"[],", b"[]]}"),
        (b'{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[', b"1,", b"1]}}"),
        (b'{"a":{', b'"":0,', b'"":0}}'),
        (b'{"a":{"dtype":"', b"\\n", b'","shape":[],"data_offsets":[0,4]}}'),
        (b'{"__metadata__":{', b'"":"",', b'"":""}}'),
        (b'{"', b"x", b'":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'),
        (b'{"', b"\\u0041", b'":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'),
        (b'{"\xf0\x9f\x98\x80', b"x", b'":1}'),
        (b'{"a":', b'{"a":', b"1}"),
        (b"", b" ", b"{}"),
        (b"", b"\0", b""),
        (b"{", b'"a":1,', b"}"),
    ],
)
def test_a_header_made_to_fill_the_memory_does_not(
    before: bytes, filling: bytes, after: bytes, quick_path: Path
) -> None:
    """Twenty megabytes that as Python objects would be hundreds: nothing is kept but the bytes themselves."""
    path, size = quick_path / "model.safetensors", 20_000_000
    header = before + filling * (size // len(filling)) + after
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    peak, message = peak_of(path)
    assert (message or before == b"") and len(message) < len(str(path)) + 500
    assert peak < len(header) + 5 * MEGABYTE


def test_two_hundred_thousand_names_and_one_twice(tmp_path: Path) -> None:
    """Finding it takes no longer than reading them."""
    path = tmp_path / "model.safetensors"
    keys = [f'"{i}":""' for i in range(200_000)]
    header = ('{"__metadata__":{' + ",".join([*keys, keys[-1]]) + "}}").encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="'199999' is there twice"):
        read_header(path)


def test_large_metadata_and_odd_but_sound_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    text = json.dumps({"recipe": "models: [}{]\n" * 20_000})
    tensors = {
        "": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        'a\0b\n{}"\\ä\U0001f600': {"dtype": "F32", "shape": [1] * 64, "data_offsets": [4, 8]},
        "void": {"dtype": "F64", "shape": [2**59, 0], "data_offsets": [8, 8]},
    }
    for ascii_only, indent in ((True, None), (False, 3)):
        header = json.dumps({**tensors, "__metadata__": {"x": text}}, ensure_ascii=ascii_only, indent=indent).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + np.arange(2, dtype=np.float32).tobytes())
        found = open_checkpoint(path)
        assert {n: (t.dtype, list(t.shape)) for n, t in found.tensors.items()} == {
            n: (t["dtype"], t["shape"]) for n, t in tensors.items()
        }
        assert [read_tensor(found, name).sum() for name in tensors] == [0, 1, 0]
        assert read_header(path).metadata == {"x": text}
        theirs = library(path)
        assert theirs is not None and theirs.keys() == tensors.keys()
