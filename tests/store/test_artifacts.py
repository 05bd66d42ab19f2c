import errno
import io
import os
import random
import shutil
import subprocess
import sys

import pytest

from tunemerge.errors import StoreError
from tunemerge.store.artifacts import MANIFEST, Store
from tunemerge.store.digest import digest_folder

KEY = "ab" * 32
OTHER = "cd" * 32


def fill(folder):
    (folder / "sub").mkdir()
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "sub" / "note.txt").write_text("note")
    return folder


def published(store, key=KEY):
    return store.publish(key, "op", fill(store.scratch(key)), {"seconds": 1.5}, {"label": "a"})


def test_reading_a_store_that_is_not_there_writes_nothing(tmp_path):
    store = Store(tmp_path / "store")
    assert store.get(KEY) is None
    assert store.journal.read() == []
    assert not (tmp_path / "store").exists()


def test_what_is_published_is_what_was_made(tmp_path):
    store = Store(tmp_path / "store")
    made = published(store)
    assert made.path == tmp_path / "store" / "artifacts" / "ab" / KEY
    assert (made.op, made.cost, made.meta) == ("op", {"seconds": 1.5}, {"label": "a"})
    assert (made.path / "sub" / "note.txt").read_text() == "note"
    assert Store(tmp_path / "store").get(KEY) == made
    store.verify(made)
    plain = tmp_path / "plain"
    plain.mkdir()
    assert made.digest == digest_folder(fill(plain))[0]


def test_the_first_to_publish_wins(tmp_path):
    store = Store(tmp_path / "store")
    first = published(store)
    again = store.scratch(KEY)
    (again / "else").write_text("else")
    assert store.publish(KEY, "op", again, {}, {}) == first
    assert not again.exists()
    assert not (first.path / "else").exists()


def test_an_incomplete_artifact_is_not_served_and_is_replaced(tmp_path):
    store = Store(tmp_path / "store")
    path = published(store).path
    for harm in (
        lambda: (path / MANIFEST).unlink(),
        lambda: (path / "weights.bin").unlink(),
        lambda: (path / "weights.bin").write_bytes(b"short"),
        lambda: shutil.rmtree(path),
    ):
        harm()
        assert store.get(KEY) is None
        made = published(store)
        assert store.get(KEY) == made
        store.verify(made)


def test_verify_names_the_file(tmp_path):
    store = Store(tmp_path / "store")
    made = published(store)
    (made.path / "more.txt").write_text("more")
    with pytest.raises(StoreError, match=r"more\.txt.*not in the manifest"):
        store.verify(made)
    (made.path / "more.txt").unlink()
    (made.path / ".DS_Store").write_text("a file manager's")
    store.verify(made)
    (made.path / "sub" / "note.txt").write_text("nope")
    with pytest.raises(StoreError, match=r"sub/note\.txt: found 4 bytes"):
        store.verify(made)


def test_random_single_bit_flips_are_found_and_never_served(tmp_path):
    store = Store(tmp_path / "store")
    made = published(store)
    files = sorted(p for p in made.path.rglob("*") if p.is_file())
    draw = random.Random(0)
    for file in files:
        sound = file.read_bytes()
        for _ in range(40):
            flipped = bytearray(sound)
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
            file.write_bytes(flipped)
            with pytest.raises(StoreError, match=file.name.replace(".", r"\.")):
                store.verify(made)
        file.write_bytes(sound)
    store.verify(made)


def test_a_damaged_input_is_reported_and_removed(tmp_path):
    store = Store(tmp_path / "store")
    made = published(store)
    weights = made.path / "weights.bin"
    store.verify_input(tmp_path / "elsewhere")
    store.verify_input(weights)
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    with pytest.raises(StoreError, match=r"weights\.bin.*run again"):
        store.verify_input(weights)
    assert store.get(KEY) is None
    assert not made.path.exists()


def test_what_cannot_be_read_just_now_is_neither_missing_nor_removed(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    made = published(store)
    real = io.open

    def failing(file, *args, **kwargs):
        if str(file).endswith(failed):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(file))
        return real(file, *args, **kwargs)

    for failed, act in [
        (MANIFEST, lambda: store.get(KEY)),
        (MANIFEST, lambda: published(store)),
        ("weights.bin", lambda: Store(tmp_path / "store").verify_input(made.path)),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(io, "open", failing)
            with pytest.raises(StoreError, match=rf"Too many open files.*{failed}"):
                act()
        assert store.get(KEY) == made


def test_links_and_the_stores_own_name_are_refused(tmp_path):
    store = Store(tmp_path / "store")
    folder = fill(store.scratch(KEY))
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="link"):
        store.publish(KEY, "op", folder, {}, {})
    (folder / "link").unlink()
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(StoreError, match=MANIFEST):
        store.publish(KEY, "op", folder, {}, {})
    assert not store.path(KEY).exists()


@pytest.mark.parametrize("key", ["", "..", "../../x", "a/b", "AB" * 32, ".hidden"])
def test_a_key_is_never_a_path(tmp_path, key):
    with pytest.raises(StoreError, match="key"):
        Store(tmp_path).path(key)


def test_reading_one_file_verifies_it(tmp_path):
    store = Store(tmp_path / "store")
    made = published(store)
    file = made.path / "weights.bin"
    assert store.read(made, "weights.bin") == file.read_bytes()
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(StoreError, match=r"weights\.bin: damaged.*run again"):
        store.read(made, "weights.bin")
    assert store.get(KEY) is None


def test_scratch_of_dead_processes_is_swept_and_that_of_live_ones_kept(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from tunemerge.store.artifacts import Store\n"
        "(Store(sys.argv[1]).scratch('abc') / 'big').write_text('big'); print('made', flush=True); time.sleep(60)"
    )
    root = tmp_path / "store"
    command = [sys.executable, "-c", program, str(root)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as live,
        subprocess.Popen(command, stdout=subprocess.PIPE) as dead,
    ):
        live.stdout.readline(), dead.stdout.readline()
        assert len(list(root.glob("tmp/*/*/big"))) == 2
        dead.kill()
        dead.wait()
        mine = Store(root).scratch("abc")
        assert len(list(root.glob("tmp/*/*/big"))) == 1
        assert mine.is_dir()
        live.kill()


def calls_that_fail(monkeypatch, number, code):
    """Let the `number`-th call to the operating system fail; returns the list of calls made so far."""
    made = []

    def failing(name, real):
        def call(*args, **kwargs):
            made.append(name)
            if len(made) == number:
                raise OSError(code, os.strerror(code), "injected")
            return real(*args, **kwargs)

        return call

    for name in ("open", "write", "fsync", "rename", "replace", "mkdir", "scandir", "stat", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, failing(name, getattr(os, name)))
    monkeypatch.setattr(io, "open", failing("io.open", io.open))
    return made


@pytest.mark.parametrize("junk", [False, True])  # something broken stands in the way
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_publish_survives_a_failure_of_every_system_call_in_turn(tmp_path, monkeypatch, code, junk):
    failures, number = 0, 0
    while True:
        number += 1
        store = Store(tmp_path / f"store{number}")
        if junk:
            store.path(KEY).mkdir(parents=True)
            (store.path(KEY) / "junk").write_text("junk")
        folder = fill(store.scratch(KEY))
        with monkeypatch.context() as patch:
            made = calls_that_fail(patch, number, code)
            try:
                store.publish(KEY, "op", folder, {}, {})
                failed = False
            except StoreError as problem:
                failed = True
                assert "injected" in str(problem)
                assert os.strerror(code) in str(problem)
        if failed:
            failures += 1
            assert store.get(KEY) is None
            assert not (store.path(KEY) / "weights.bin").exists()
        shutil.rmtree(folder, ignore_errors=True)
        store.verify(published(store))  # the store goes on
        assert store.get(KEY).digest == published(Store(tmp_path / "sound")).digest
        if len(made) < number:
            break
    assert failures >= 15
