"""Every bit that flips in a store, and every file that is added or taken away, is found and named.

TUNEMERGE_FLIPS=200 asks for more flips than the few of an everyday test run.
"""

import os
import random
from pathlib import Path

import pytest

from tunemerge.store.artifacts import Store
from tunemerge.store.sealed import write_sealed
from tunemerge.store.verify import verify_store

FLIPS = int(os.environ.get("TUNEMERGE_FLIPS", "40"))


@pytest.fixture
def store(tmp_path):
    store, draw = Store(tmp_path / "store"), random.Random(0)
    for key in ("aaaa", "aabb", "cccc"):
        folder = store.scratch(key)
        (folder / "model.safetensors").write_bytes(draw.randbytes(3000))
        (folder / "part").mkdir()
        (folder / "part" / "curve.json").write_bytes(b'{"curve": [1, 2, 3]}')
        store.publish(key, "tune", folder, {"seconds": 1.0}, {"label": key})
    store.strip_model("cccc")
    write_sealed(store.root / "rows" / "rrrr.parquet", draw.randbytes(500))
    for number in range(3):
        store.journal.append({"event": "test_opened", "plan": f"p{number}", "tests": ["t"]})
    return store


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_a_sound_store_has_no_findings(store):
    assert verify_store(store) == []
    assert verify_store(Store(store.root / "nowhere")) == []


def test_every_flipped_bit_is_found_and_its_file_named(store):
    files = [p for p in sorted(store.root.rglob("*")) if p.is_file() and p.stat().st_size]
    kinds = {p.parent.name if p.suffix != ".json" or "part" in p.parts else p.name for p in files}
    assert {"manifest.json", "stripped.json", "part", "rows", "store"} <= kinds
    draw = random.Random(1)
    # Every file once, and then wherever the bits fall.
    for number in range(max(FLIPS, len(files))):
        file = files[number] if number < len(files) else draw.choice(files)
        bit = draw.randrange(8 * file.stat().st_size)
        flip(file, bit)
        named = [f.message for f in verify_store(store)]
        assert any(str(file).removesuffix(".seal") in message for message in named), (file, bit, named)
        flip(file, bit)
    assert verify_store(store) == []


def test_missing_and_added_files_are_named(store):
    (store.path("aaaa") / "part" / "curve.json").unlink()
    (store.path("aabb") / "more.json").write_text("{}")
    (store.path("aabb") / ".DS_Store").write_text("a file manager's own")
    (store.path("cccc") / "manifest.json").unlink()
    (store.root / "artifacts" / "stray").write_text("")
    (store.root / "artifacts" / "aa" / "link").symlink_to("aaaa")
    (store.root / "rows" / "rrrr.parquet").unlink()
    found = [f.message for f in verify_store(store)]
    said = ("curve.json: the file is missing", "more.json: the file is not in the manifest", "manifest.json: missing")
    for part in (*said, "stray: not a part of a store", "link", "rrrr.parquet: the file is missing"):
        assert sum(part in message for message in found) == 1, (part, found)
    assert len(found) == 6


def test_a_removed_model_that_comes_back_must_be_the_same(store):
    (store.path("cccc") / "model.safetensors").write_bytes(b"another")
    assert "model.safetensors: found 7 bytes" in verify_store(store)[0].message
