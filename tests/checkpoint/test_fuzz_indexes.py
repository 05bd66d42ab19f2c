"""Thousands of damaged and hostile index files: nothing outside the model's folder is ever opened."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunemerge.checkpoint.model import INDEX, MAX_JSON, open_checkpoint
from tunemerge.checkpoint.reader import read_tensor
from tunemerge.checkpoint.writer import CheckpointWriter, TensorSpec
from tunemerge.errors import CheckpointError, TunemergeError

CASES = 2_500
STATE = {f"layer.{i}.weight": np.arange(i + 2, dtype=np.float32) + 10 * i for i in range(6)}


def write_model(folder: Path) -> Path:
    folder.mkdir()
    specs = {name: TensorSpec("F32", array.shape) for name, array in STATE.items()}
    with CheckpointWriter(folder, specs, {}, shard_bytes=40) as writer:
        for name, array in STATE.items():
            writer.write(name, 0, array)
        writer.close()
    return folder


class Folder:
    """A model in shards, for one mutator to damage; `outside` holds a copy of it, with other numbers."""

    def __init__(self, path: Path, outside: Path, sound: dict[str, bytes], draw: random.Random) -> None:
        self.path, self.outside, self.draw = path, outside, draw
        for name, raw in sound.items():
            (path / name).write_bytes(raw)
        self.index: Any = json.loads(sound[INDEX])
        self.shards = sorted(set(self.index["weight_map"].values()))

    def shard(self) -> Path:
        return self.path / self.draw.choice(self.shards)

    def tensor(self) -> str:
        return self.draw.choice(list(STATE))

    def point(self, file: Any) -> None:
        """The index says that a tensor, or all of a shard, is in `file`."""
        weights, tensor = self.index["weight_map"], self.tensor()
        moved = weights[tensor]
        for name in weights:
            if name == tensor or (self.draw.random() < 0.5 and weights[name] == moved):
                weights[name] = file

    def write(self) -> None:
        if not isinstance(self.index, bytes):
            self.index = json.dumps(self.index, ensure_ascii=self.draw.random() < 0.5).encode("utf-8", "replace")
        (self.path / INDEX).write_bytes(self.index)


def _separators(f: Folder) -> None:
    name, out = f.draw.choice(f.shards), f.outside
    f.point(
        f.draw.choice(
            [
                *(
                    f"../outside/{name}",
                    f"{out}/{name}",
                    f"./{name}",
                    f"sub/{name}",
                    f"//{name}",
                    f"{name}/",
                    f"/{name}",
                ),
                *(f"..\\outside\\{name}", f"C:\\{name}", f"C:{name}", f"\\\\host\\share\\{name}", f"~/{name}"),
                *(f"{f.path}/{name}", f"{f.path.name}/../{name}", f"file://{out}/{name}", f"https://host/{name}"),
            ]
        )
    )


def _odd_names(f: Folder) -> None:
    name = f.draw.choice(f.shards)
    f.point(
        f.draw.choice(
            [
                *("", ".", "..", "...", "/", "\\", "\0", f"\0{name}", f"{name}\0", f"{name}\0.safetensors", "\ud800"),
                *(
                    "\ud800.safetensors",
                    "\udc80.safetensors",
                    "x" * 300 + ".safetensors",
                    "x" * 70_000 + ".safetensors",
                ),
                *(
                    ".safetensors",
                    "..safetensors",
                    "model.bin",
                    name.upper(),
                    f" {name}",
                    f"{name}\n",
                    "\n.safetensors",
                ),
                *("\u2025/x.safetensors", "\uff0e\uff0e\uff0fx.safetensors", "*.safetensors", "$HOME.safetensors"),
                *("config.json", "passwd", INDEX, "con.safetensors", "ä.safetensors", "a\u0308.safetensors"),
            ]
        )
    )


def _wrong_types(f: Folder) -> None:
    f.point(f.draw.choice([None, True, 3, 1.5, [], ["a"], {}, {"a": "b"}, [f.shards[0]], -(2**70), float("nan")]))


def _wrong_map(f: Folder) -> None:
    bad = [None, [], {}, "x", 3, True, [["a", f.shards[0]]], {"": ""}, {"a": f.shards[0]}, f.shards]
    f.index = f.draw.choice([{"weight_map": f.draw.choice(bad)}, {}, {"metadata": {}}, f.index["weight_map"]])


def _wrong_shard(f: Folder) -> None:
    f.index["weight_map"][f.tensor()] = f.draw.choice(f.shards)


def _lost(f: Folder) -> None:
    del f.index["weight_map"][f.tensor()]


def _ghost(f: Folder) -> None:
    name = f.draw.choice(["ghost", "", "\0", "../x", "x" * 9000, "layer.0.weight\0", "\ud800", "__metadata__"])
    f.index["weight_map"][name] = f.draw.choice(f.shards)


def _missing(f: Folder) -> None:
    f.shard().unlink()


def _other_name(f: Folder) -> None:
    """A missing file that is there under another name."""
    file = f.shard()
    file.rename(file.with_name(f.draw.choice(["x.safetensors", "pytorch_model.bin", file.name + ".part"])))


def _link(f: Folder) -> None:
    """A shard, or the index, is a link: out of the folder, to itself, to a device, to nothing."""
    file, other = f.draw.choice([f.shard(), f.shard(), f.path / INDEX]), f.shard()
    targets = [
        f.outside / file.name,
        Path("..") / "outside" / file.name,
        file.name,
        "/dev/zero",
        "/dev/stdin",
        "nowhere",
    ]
    targets += [f.outside, ".", "..", other, other.name, "/proc/self/environ", "/etc/passwd", "x" * 255]
    if file.name == INDEX:
        f.write()
        f.index = (f.path / INDEX).read_bytes()
    target = f.draw.choice(targets)
    if Path(target) == file:
        return
    file.unlink()
    file.symlink_to(target)


def _circle(f: Folder) -> None:
    one, two = f.shards[:2]
    for name, target in ((one, two), (two, one)):
        (f.path / name).unlink()
        (f.path / name).symlink_to(target)


def _no_file(f: Folder) -> None:
    """A folder or a pipe where a file should be."""
    file = f.shard()
    file.unlink()
    f.draw.choice([Path.mkdir, os.mkfifo])(file)


def _damaged_shard(f: Folder) -> None:
    file = f.shard()
    raw = bytearray(file.read_bytes())
    match f.draw.randrange(3):
        case 0:
            raw = raw[: f.draw.randrange(len(raw))]
        case 1:
            raw[f.draw.randrange(min(len(raw), 160))] ^= 1 << f.draw.randrange(8)
        case 2:
            raw = bytearray((f.path / f.draw.choice(f.shards)).read_bytes())
    file.write_bytes(raw)


def _not_json(f: Folder) -> None:
    raw = bytearray(json.dumps(f.index).encode())
    match f.draw.randrange(5):
        case 0:
            raw = raw[: f.draw.randrange(len(raw))]
        case 1:
            raw[f.draw.randrange(len(raw))] = f.draw.randrange(256)
        case 2:
            raw = bytearray(
                f.draw.choice([b"", b"null", b"3", b"[]", b'"x"', b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"{}{}"])
            )
        case 3:
            raw = bytearray(f.draw.choice([b"[", b'{"weight_map":', b'{"a":[']) * f.draw.choice([1, 2000, 50_000]))
        case 4:
            raw = bytearray(b'{"weight_map":' + b"9" * f.draw.choice([10, 5000]) + b"}")
    f.index = bytes(raw)


def _harmless(f: Folder) -> None:
    weights = list(f.index["weight_map"].items())
    f.draw.shuffle(weights)
    f.index = {"weight_map": dict(weights), "metadata": f.draw.choice([None, 3, {"total_size": -1}]), "x": [1]}
    (f.path / "notes.txt").write_text("a file that nobody names")
    (f.path / "spare.safetensors").write_bytes(b"junk")


def _one_scribble(f: Folder) -> None:
    """One character of the text, anywhere: names and files that nearly agree."""
    text = json.dumps(f.index)
    at = f.draw.randrange(len(text))
    f.index = (text[:at] + f.draw.choice(list('./\\"0a\x00:{}')) + text[at + 1 :]).encode()


MUTATORS = [
    *(_separators, _separators, _odd_names, _wrong_types, _wrong_map, _wrong_shard, _lost, _ghost, _missing),
    *(_other_name, _link, _link, _circle, _no_file, _damaged_shard, _not_json, _harmless, _one_scribble),
]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real path of every file that is opened."""
    paths, real, real_os = list[str](), io.open, os.open

    def noted(file: Any, *args: Any, **more: Any) -> Any:
        paths.append(os.path.realpath(file))
        return real(file, *args, **more)

    def noted_os(file: Any, *args: Any, **more: Any) -> Any:
        paths.append(os.path.realpath(file))
        return real_os(file, *args, **more)

    monkeypatch.setattr(io, "open", noted)
    monkeypatch.setattr(os, "open", noted_os)
    return paths


def test_two_and_a_half_thousand_indexes(quick_path: Path, opened: list[str]) -> None:
    sound = {p.name: p.read_bytes() for p in write_model(quick_path / "sound").iterdir()}
    outside = quick_path / "outside"
    outside.mkdir()
    for name, raw in sound.items():
        (outside / name).write_bytes(raw if name == INDEX else raw[:-4] + b"\xff\xff\xff\x7f")
    seen, accepted = Counter[str](), Counter[str]()
    for number in range(CASES):
        draw = random.Random(number)
        folder = quick_path / "model"
        folder.mkdir()
        model = Folder(folder, outside, sound, draw)
        mutator = MUTATORS[number % len(MUTATORS)]
        mutator(model)
        if not (folder / INDEX).is_symlink():
            model.write()
        opened.clear()
        try:
            found = open_checkpoint(folder)
            # A shard that the index does not know at all is no part of the model.
            assert found.tensors.keys() == STATE.keys() or (mutator is _lost and len(found.files) < len(model.shards))
            for name in found.tensors:
                values = read_tensor(found, name)
                assert values.tobytes() == STATE[name].tobytes() or mutator is _damaged_shard, (number, name)
            accepted[mutator.__name__] += 1
        except CheckpointError as problem:
            message = str(problem)
            assert message.startswith(str(folder)) and len(message) < len(str(folder)) + 500, (number, message)
            seen[mutator.__name__] += 1
        assert all(Path(p).parent == folder for p in opened), (number, mutator.__name__, opened)
        shutil.rmtree(folder)
    assert accepted.keys() >= {"_harmless", "_wrong_shard", "_link", "_one_scribble"}
    assert accepted["_harmless"] == CASES // len(MUTATORS) + (CASES % len(MUTATORS) > MUTATORS.index(_harmless))
    for mutator in MUTATORS:
        if mutator is not _harmless:
            assert seen[mutator.__name__] > 10, mutator.__name__
    assert not accepted.keys() & {
        "_separators",
        "_wrong_types",
        "_wrong_map",
        "_ghost",
        "_missing",
        "_circle",
        "_no_file",
    }


@pytest.mark.parametrize("name", [INDEX, "config.json"])
def test_a_huge_json_file_is_not_read(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    with (folder / name).open("wb") as file:
        file.truncate(MAX_JSON + 1)  # without blocks on the disk
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=rf"{name}: larger than 100,000,000 bytes"):
            open_checkpoint(folder)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "config.json").symlink_to("gone.json")
    with pytest.raises(CheckpointError, match=r"config\.json: No such file"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: a link that leads in a circle"):
        open_checkpoint(folder)


def test_a_disk_that_fails_is_not_a_file_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "config.json").write_text("{}")
    real = os.lstat

    def failing(path: Any, **more: Any) -> Any:
        if str(path).endswith("config.json"):
            raise OSError(5, "Input/output error", str(path))
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", failing)
    monkeypatch.setattr(Path, "lstat", failing)
    with pytest.raises(TunemergeError, match=r"config\.json: Input/output error") as caught:
        open_checkpoint(folder)
    assert caught.value.exit_code == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", INDEX):
        folder = write_model(tmp_path / name)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(CheckpointError, match=rf"{name}: not a plain file"):
            open_checkpoint(folder)
