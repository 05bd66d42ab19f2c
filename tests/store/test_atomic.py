import os
import subprocess
import sys

import pytest

from tunemerge.store import atomic
from tunemerge.store.atomic import replace_folder, replacing, write_file


def names(folder):
    return [entry.name for entry in folder.iterdir()]


def test_write_file_writes_and_replaces(tmp_path):
    write_file(tmp_path / "f", b"one")
    write_file(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert names(tmp_path) == ["f"]


def test_write_file_copes_with_short_writes(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    write_file(tmp_path / "f", b"0123456789")
    assert (tmp_path / "f").read_bytes() == b"0123456789"


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_bytes_and_no_temporary(tmp_path, monkeypatch, call):
    (tmp_path / "f").write_bytes(b"old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError):
        write_file(tmp_path / "f", b"new")
    monkeypatch.undo()
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_replace_folder_moves_and_replaces(tmp_path):
    for version in ("one", "two"):
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp" / "f").write_text(version)
        replace_folder(tmp_path / "tmp", tmp_path / "out" / "target")
        assert (tmp_path / "out" / "target" / "f").read_text() == version
        assert names(tmp_path / "out") == ["target"]
        assert not (tmp_path / "tmp").exists()


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("failing", ["fsync_tree", "fsync_path"])
def test_a_failed_replacement_leaves_the_old_folder(tmp_path, monkeypatch, can_exchange, failing):
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchanged", lambda one, other: False)

    def broken(path):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, failing, broken)
        with pytest.raises(OSError):
            replace_folder(tmp_path / "new", tmp_path / "target")
    assert sorted(names(tmp_path)) == ["new", "target"]
    assert (tmp_path / "target" / "f").read_text() == "target"
    replace_folder(tmp_path / "new", tmp_path / "target")
    assert names(tmp_path) == ["target"]
    assert (tmp_path / "target" / "f").read_text() == "new"


def test_an_old_folder_is_exchanged_in_one_step_on_linux(tmp_path, monkeypatch):
    for name in ("new", "target"):
        (tmp_path / name).mkdir()
    if not atomic._exchanged(tmp_path / "new", tmp_path / "target"):
        pytest.skip("this system or file system can't")
    monkeypatch.setattr(os, "rename", None)  # or there would be a moment with nothing at the final name
    replace_folder(tmp_path / "new", tmp_path / "target")


def test_replacing_puts_the_folder_there_only_when_all_went_well(tmp_path):
    with replacing(tmp_path / "out" / "model") as folder:
        (folder / "f").write_text("one")
        assert not (tmp_path / "out" / "model").exists()
    with pytest.raises(RuntimeError), replacing(tmp_path / "out" / "model") as folder:
        (folder / "f").write_text("two")
        raise RuntimeError
    assert (tmp_path / "out" / "model" / "f").read_text() == "one"
    assert names(tmp_path / "out") == ["model"]


def test_what_a_killed_process_left_is_swept_and_what_a_live_one_fills_is_not(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tunemerge.store.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as folder:\n    (folder / 'f').write_text('half')\n"
        "    print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with replacing(tmp_path / "model") as folder:
            (folder / "f").write_text("one")
        assert len(names(tmp_path)) == 2
        process.kill()
    with replacing(tmp_path / "model") as folder:
        (folder / "f").write_text("two")
    assert names(tmp_path) == ["model"] and (tmp_path / "model" / "f").read_text() == "two"
