from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from tunemerge.errors import StoreError
from tunemerge.store import remember
from tunemerge.store.digest import digest_file, digest_folder, seal, unseal
from tunemerge.store.remember import SMALL, file_digest, file_digests


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own; its entries lie in digests/."""
    monkeypatch.setenv("TUNEMERGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "digests"


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """How many files were really read, one entry each."""
    read, real = [], hashlib.file_digest

    def counted(file, name):
        read.append(file.name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return read


@pytest.fixture
def hours_later(monkeypatch):
    """The clock of this process only: files that were written just now are old."""
    real = remember.time.time_ns
    monkeypatch.setattr(remember.time, "time_ns", lambda: real() + 3600 * 10**9)


def large(path: Path, seed: int = 0) -> Path:
    path.write_bytes(bytes([seed]) * (SMALL + 5))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("hours_later")
def test_a_file_is_read_once_and_again_when_anything_changes(tmp_path, reads, cache):
    file = large(tmp_path / "model.safetensors")
    assert file_digest(file) == sha256(file)
    assert file_digest(file) == sha256(file) and len(reads) == 1
    kept = file.stat()
    with file.open("r+b") as f:
        f.write(b"x")  # one byte, and the old time put back: the change time still tells
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert file_digest(file) == sha256(file) and len(reads) == 2
    other = large(tmp_path / "other", seed=9)
    os.utime(other, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    other.replace(file)
    assert file_digest(file) == sha256(file) and len(reads) == 3
    with file.open("ab") as f:
        f.write(b"y")
    assert file_digest(file) == sha256(file) and len(reads) == 4
    assert len(list(cache.iterdir())) == 1  # one entry a path, and no temporary file


def test_what_was_written_just_now_is_not_remembered(tmp_path, reads, cache):
    file = large(tmp_path / "f")
    assert file_digest(file) == file_digest(file) == sha256(file)
    assert len(reads) == 2 and not cache.exists()
    os.utime(file, (1, 1))  # an old modification time hides nothing: the change time is new
    file_digest(file)
    assert not cache.exists()


def test_a_time_in_the_future_is_not_remembered(tmp_path, reads, cache, hours_later):
    file = large(tmp_path / "f")
    os.utime(file, ns=(0, remember.time.time_ns() + 10**12))
    assert file_digest(file) == file_digest(file) and len(reads) == 2 and not cache.exists()


@pytest.mark.usefixtures("hours_later")
def test_small_files_are_read_each_time(tmp_path, reads, cache):
    (tmp_path / "config.json").write_bytes(b"{}" * 100)
    assert file_digest(tmp_path / "config.json") == file_digest(tmp_path / "config.json")
    assert len(reads) == 2 and not cache.exists()


@pytest.mark.usefixtures("hours_later")
def test_links_and_moved_targets(tmp_path, reads):
    one, two, link = large(tmp_path / "one", 1), large(tmp_path / "two", 2), tmp_path / "link"
    link.symlink_to(one)
    assert file_digest(link) == sha256(one)
    link.unlink()
    link.symlink_to(two)
    assert file_digest(link) == sha256(two)
    assert len(reads) == 2


@pytest.mark.usefixtures("hours_later")
def test_names_that_are_no_text(tmp_path, reads):
    file = large(tmp_path / os.fsdecode(b"m\xff\n\xc3\xa4"))
    assert file_digest(file) == file_digest(file) == sha256(file) and len(reads) == 1


@pytest.mark.usefixtures("hours_later")
def test_an_entry_is_believed_only_where_every_bit_is_right(tmp_path, reads, cache):
    file = large(tmp_path / "f")
    right = file_digest(file)
    (entry,) = cache.iterdir()
    sound = entry.read_bytes()
    damaged = [b"", sound[:-5], sound + b" ", b"[" * 70_000, b"\xff" * 99, b"null\n", seal(None), seal([1]), seal("x")]
    for position in range(0, len(sound), 7):
        flipped = bytearray(sound)
        flipped[position] ^= 1
        damaged.append(bytes(flipped))
    kept = unseal(sound)
    damaged += [
        seal({**kept, "path": str(tmp_path / "g")}),  # another file's entry
        seal({**kept, "stamp": [n + 1 for n in kept["stamp"]]}),
        seal({**kept, "sha256": None}),
        json.dumps(kept).encode(),  # no checksum
    ]
    for raw in damaged:
        entry.write_bytes(raw)
        reads.clear()
        assert file_digest(file) == right and len(reads) == 1, raw
        assert entry.read_bytes() == sound
    entry.unlink()
    entry.mkdir()
    assert file_digest(file) == right


@pytest.mark.usefixtures("hours_later")
def test_an_entry_of_another_person_is_not_believed(tmp_path, reads, cache, monkeypatch):
    file = large(tmp_path / "f")
    file_digest(file)
    (entry,) = cache.iterdir()
    entry.write_bytes(seal({**unseal(entry.read_bytes()), "sha256": "0" * 64}))
    assert file_digest(file) == "0" * 64  # ours: believed
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert file_digest(file) == sha256(file)


@pytest.mark.usefixtures("hours_later")
def test_a_cache_that_can_t_be_written_costs_time_only(tmp_path, reads, cache, monkeypatch):
    file = large(tmp_path / "f")
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert file_digest(file) == file_digest(file) == sha256(file) and len(reads) == 2

    def full(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("TUNEMERGE_CACHE", str(tmp_path / "full"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert file_digest(file) == sha256(file)
    assert list((tmp_path / "full" / "digests").iterdir()) == []


def test_where_the_cache_is(tmp_path, monkeypatch):
    assert remember.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TUNEMERGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert remember.cache_folder() == tmp_path / "xdg" / "tunemerge"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert remember.cache_folder() == tmp_path / "home" / ".cache" / "tunemerge"


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    file, real = large(tmp_path / "f"), hashlib.file_digest

    def slow(opened, name):
        with file.open("ab") as f:
            f.write(b"more")
        return real(opened, name)

    monkeypatch.setattr(hashlib, "file_digest", slow)
    with pytest.raises(StoreError, match=r"/f: changed while it was read"):
        file_digest(file)


def test_what_can_t_be_read_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "missing", "missing/deeper"):
        with pytest.raises(StoreError, match=rf"{tmp_path}.*(no digest|can't be read: No such)"):
            file_digest(tmp_path / name)


@pytest.mark.usefixtures("hours_later")
def test_several_at_once(tmp_path, reads):
    files = [large(tmp_path / f"f{i}", i) for i in range(6)]
    expected = {file: sha256(file) for file in files}
    for threads in (1, 3):
        assert file_digests([*files, files[0]], threads) == expected
    assert len(reads) == len(files)
    with pytest.raises(StoreError, match="missing"):
        file_digests([*files, tmp_path / "missing"], 3)


@pytest.mark.usefixtures("hours_later")
def test_many_writers_of_one_entry(tmp_path, cache):
    file, found = large(tmp_path / "f"), []

    def work():
        found.extend(file_digest(file) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sha256(file)] * 40 and len(list(cache.iterdir())) == 1


@pytest.mark.usefixtures("hours_later")
def test_folders_have_the_same_digest_by_either_way(tmp_path, reads):
    folder = tmp_path / "model"
    folder.mkdir()
    large(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    plain = digest_folder(folder)
    assert digest_folder(folder, digest=file_digest) == plain
    reads.clear()
    assert digest_folder(folder, digest=file_digest) == plain
    assert reads == [str(folder / "config.json")]
    assert digest_file(folder / "model.safetensors") == plain[1]["model.safetensors"]["sha256"]
