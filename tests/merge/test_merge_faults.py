"""Whatever goes wrong during a merge, the final name holds a whole model: the one before, or the new one.

The command line runs in this process where a call to the system is made to fail, in a process of its own where that
process is limited or killed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tunemerge.cli.app import app
from tunemerge.store.digest import digest_folder

MakeModel = Callable[..., Path]
MEMORY = Path("/dev/shm")
RECIPE = """
merge_method: ties
base_model: {base}
models:
- {{model: {one}, parameters: {{weight: 0.5, density: 0.5}}}}
- {{model: {two}, parameters: {{weight: 0.5, density: 0.5}}}}
"""
SHAPES: dict[str, tuple[int, ...]] = {
    "embeddings.word_embeddings.weight": (50, 16),
    "encoder.layer.0.attention.weight": (16, 16),
    "encoder.layer.1.attention.weight": (16, 16),
    "encoder.layer.1.norm.bias": (16,),
    "classifier.weight": (2, 16),
}
WRITES = ("open", "mkdir", "pwrite", "write", "fsync", "fdatasync", "ftruncate", "rename", "replace", "chmod")
READS = ("preadv", "scandir")


@dataclass(frozen=True)
class Place:
    """A recipe, and a folder for what it makes; `sound` is the digest of an undisturbed merge."""

    recipe: Path
    folder: Path
    sound: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def beside(self) -> list[str]:
        """What lies in the folder, the output apart."""
        return sorted(p.name for p in self.folder.iterdir() if p != self.out)

    @property
    def digest(self) -> str:
        return digest_folder(self.out)[0]

    def merge(self) -> tuple[int, str]:
        """The command in this process: exit code and what it said."""
        return merge(self.recipe, self.out)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tunemerge", "merge", str(self.recipe), str(self.out)]

    def keep_something_old(self) -> str:
        """Put another output of ours at the final name; its digest."""
        if not self.out.exists():
            assert self.merge()[0] == 0
        (self.out / "notes.txt").write_text("written by hand")
        return self.digest


def states(shapes: dict[str, tuple[int, ...]]) -> dict[str, dict[str, Any]]:
    """A base and two models that were tuned from it, a little."""
    draw = np.random.default_rng(0)
    base = {name: draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    out: dict[str, dict[str, Any]] = {"base": base}
    for name in ("one", "two"):
        out[name] = {key: value + 0.05 * draw.standard_normal(value.shape, np.float32) for key, value in base.items()}
    return {name: {**state, "embeddings.position_ids": np.arange(12)} for name, state in out.items()}


def merge(recipe: Path, out: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["merge", str(recipe), str(out)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output + result.stderr


def undisturbed(recipe: Path, out: Path) -> str:
    """The digest of a merge that is gone again. (An output says where its inputs lie, seen from where it lies.)"""
    code, said = merge(recipe, out)
    assert code == 0, said
    digest = digest_folder(out)[0]
    shutil.rmtree(out)
    return digest


@pytest.fixture
def place(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Small models; outputs in memory where there is such a place: killing a process asks nothing of fsync."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("TUNEMERGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    models = {name: make_model(name, state=state) for name, state in states(SHAPES).items()}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(**models))
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as folder:
        yield Place(recipe, Path(folder), undisturbed(recipe, Path(folder) / "out"))


class Failing:
    """Makes the n-th of some calls to the system fail, in any thread; `made` counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, names: tuple[str, ...], code: int, number: int) -> None:
        self.made, self.number, self.code, self.failed = 0, number, code, ""
        for name in names:
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        if "open" in names:
            patch.setattr(io, "open", self._counted("io.open", io.open))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.made += 1
            if self.made == self.number:
                self.failed = f"{name}{args[:1]}"
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("names", "code"), [(WRITES, errno.ENOSPC), (READS, errno.EIO)])
def test_every_single_call_fails_once(
    place: Place, names: tuple[str, ...], code: int, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, refused = 0, 0
    while True:
        number += 1
        before = place.keep_something_old() if old else None
        with monkeypatch.context() as patch:
            failing = Failing(patch, names, code, number)
            exit_code, said = place.merge()
        if not failing.failed:
            break
        if exit_code:
            refused += 1
            assert exit_code == (2 if str(place.recipe) in failing.failed else 1), (failing.failed, said)
            assert os.strerror(code) in said, (failing.failed, said)
            assert place.digest == before if old else not place.out.exists(), failing.failed
        else:
            assert place.digest == place.sound, failing.failed
            shutil.rmtree(place.out)
        assert place.beside == [], failing.failed
    assert exit_code == 0
    assert place.digest == place.sound
    assert place.beside == []
    assert refused > 10


def test_files_may_not_grow_beyond_a_limit(place: Place) -> None:
    """The kernel's own EFBIG, in a process of its own: at the first byte, in the middle, at the last one."""
    before = place.keep_something_old()
    size = max(f.stat().st_size for f in place.out.iterdir())
    for limit in (0, size // 2, size - 1):
        done = subprocess.run(
            place.command(),
            capture_output=True,
            text=True,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),  # type: ignore[misc]
        )
        assert done.returncode == 1, done.stderr
        assert os.strerror(errno.EFBIG) in done.stderr and "Traceback" not in done.stderr
        assert place.digest == before and place.beside == []
    assert place.merge()[0] == 0
    assert place.digest == place.sound and place.beside == []


def weights(model: str, place: Place) -> Path:
    return place.recipe.parent / model / "model.safetensors"


def test_a_full_disk_names_the_file_and_the_tensor(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    named = 0
    for number in range(2, 7):  # the first write is the header
        with monkeypatch.context() as patch:
            failing = Failing(patch, ("pwrite",), errno.ENOSPC, number)
            code, said = place.merge()
        assert code == 1 and failing.failed
        assert "model.safetensors" in said and os.strerror(errno.ENOSPC) in said
        named += any(tensor in said for tensor in ("encoder.layer", "embeddings.", "classifier."))
    assert named == 5


def test_a_read_error_names_the_file_and_the_tensor(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, real = weights("two", place), os.preadv

    def failing(fd: int, buffers: Any, offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").resolve() == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing)
        code, said = place.merge()
    assert code == 1
    assert f"{broken}: " in said and "Input/output error" in said
    assert any(tensor in said for tensor in ("encoder.layer", "embeddings.", "classifier."))
    assert not place.out.exists() and place.beside == []


@pytest.mark.parametrize("old", [False, True])
def test_a_source_is_cut_short_while_it_is_read(place: Place, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file, real = weights("one", place), os.preadv
    whole = file.read_bytes()
    before = place.keep_something_old() if old else None
    for number in (1, 4, 9):
        made = [0]

        def cutting(fd: int, buffers: Any, offset: int, made: list[int] = made, number: int = number) -> int:
            made[0] += 1
            if made[0] == number:
                os.truncate(file, len(whole) // 3)
            return real(fd, buffers, offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", cutting)
            code, said = place.merge()
        assert code == 2, said
        assert f"{file}: " in said and "while it was being read" in said
        assert any(tensor in said for tensor in ("encoder.layer", "embeddings.", "classifier."))
        assert place.digest == before if old else not place.out.exists()
        assert place.beside == []
        code, said = place.merge()  # now it is too short from the start
        assert code == 2 and f"{file}: truncated" in said
        file.write_bytes(whole)
    assert place.merge()[0] == 0 and place.digest == place.sound


def test_a_source_that_is_not_there(place: Place) -> None:
    for name in ("one", "base"):
        file = weights(name, place)
        raw = file.read_bytes()
        file.unlink()
        code, said = place.merge()
        assert code == 2 and str(file.parent) in said
        assert not place.out.exists() and place.beside == []
        file.write_bytes(raw)


def child(place: Place, kill_at: int | None = None) -> int:
    """The process id of a fork of this process that merges; it may kill itself before its n-th call to the system."""
    pid = os.fork()
    if pid == 0:
        try:
            made = [0]

            def counted(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **kwargs: Any) -> Any:
                    made[0] += 1
                    if made[0] == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **kwargs)

                return call

            if kill_at is not None:
                for name in (*WRITES, "unlink", "rmdir"):
                    setattr(os, name, counted(getattr(os, name)))
                io.open = counted(io.open)  # type: ignore[assignment]
            merge(place.recipe, place.out)
        finally:
            os._exit(0)
    return pid


def killed(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(("old", "step"), [(False, 4), (True, 1)])
def test_killed_before_every_single_call(place: Place, old: bool, step: int) -> None:
    """Every single one where an old output is at stake, every fourth where there is none."""
    number, left = 0, 0
    while True:
        number += step
        before = place.keep_something_old() if old else None
        if not killed(child(place, number)):
            break
        if place.out.exists():
            assert place.digest in (before, place.sound)
        else:
            assert not old
        left += place.beside != []
        if number % 6 == 0:
            assert place.merge()[0] == 0
            assert place.digest == place.sound and place.beside == []
        if not old and place.out.exists():
            shutil.rmtree(place.out)
    assert number > 20 and left > 3
    assert place.digest == place.sound and place.beside == []


@pytest.mark.parametrize("old", [False, True])
def test_killed_at_random_moments(place: Place, old: bool, make_model: MakeModel) -> None:
    """Ten kills each, of a merge that is long enough for most to hit it at work."""
    for name, state in states({f"layer.{i}.weight": (512, 512) for i in range(4)}).items():
        make_model(f"large_{name}", state=state)
    parent = place.recipe.parent
    recipe = parent / "large.yaml"
    recipe.write_text(RECIPE.format(base=parent / "large_base", one=parent / "large_one", two=parent / "large_two"))
    large, window = Place(recipe, place.folder, undisturbed(recipe, place.out)), 0.2
    draw, kills, at_work = random.Random(int(old)), 0, 0
    before = place.keep_something_old() if old else None
    while kills < 10:
        left = large.beside  # by the kill before; the next merge sweeps it away
        pid = child(large)
        while large.beside == left and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.0002)
        time.sleep(draw.uniform(0, window))
        os.kill(pid, signal.SIGKILL)
        if not killed(pid):
            window *= 0.7
            continue
        kills += 1
        at_work += large.beside != []
        if large.out.exists():
            assert large.digest in (before, large.sound)
            if large.digest == large.sound:  # published a moment before
                shutil.rmtree(large.out)
                before = place.keep_something_old() if old else None
        else:
            assert not old
    assert at_work >= 3
    assert large.merge()[0] == 0
    assert large.digest == large.sound and large.beside == []


def test_the_command_itself_is_killed(place: Place) -> None:
    """In a process of its own, as soon as it has begun to write."""
    for _ in range(2):
        with subprocess.Popen(place.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and not place.beside:
                time.sleep(0.0005)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if place.out.exists():
            assert place.digest == place.sound
            shutil.rmtree(place.out)
    assert place.merge()[0] == 0
    assert place.digest == place.sound and place.beside == []
