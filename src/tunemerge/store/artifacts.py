"""The store of artifacts: a step is finished, with a manifest of digests, or it never happened.

    <root>/artifacts/<key[:2]>/<key>/   files, and manifest.json (sealed: it carries its own checksum)
    <root>/tmp/<owner>/                 scratch folders of one live process, which holds <owner>.lock
    <root>/locks/<key>.lock             held while a step is computed
    <root>/holds/<run>.lock             held by a live run; the keys that it needs
    <root>/logs/<key>.log               what a step printed
    <root>/unfinished/<key>/            what a step that was killed left for the next attempt
    <root>/journal.jsonl

Nothing is written before something is stored, so reading a store that isn't there leaves nothing behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.errors import StoreError
from tunemerge.store.atomic import link, replace_folder, write_file
from tunemerge.store.digest import FileEntry, digest_folder, seal, unseal
from tunemerge.store.journal import Journal
from tunemerge.store.lock import locked
from tunemerge.store.scratch import owned_folder
from tunemerge.store.strip import MARK, is_model, strip, stripped_files

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """What a finished step published: the folder `path`, the digest of its content, and what it cost."""

    key: str
    op: str
    path: Path
    digest: str
    cost: Mapping[str, float]
    meta: Mapping[str, Any]


class DamagedError(StoreError):
    """An artifact is not what its manifest says. (A file that can't be read is a StoreError, but no damage.)"""


class Store:
    """Artifacts by key under one folder, shared by all runs and processes that name it. OSErrors are StoreErrors."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self._trusted: dict[str, tuple[Any, ...]] = {}

    @property
    def journal(self) -> Journal:
        return Journal(self.root / "journal.jsonl")

    @contextmanager
    def lock(self, key: str, wait: bool = True) -> Iterator[bool]:
        """Hold this key's kernel lock; yields whether it is held: always, unless `wait` is False."""
        path = self.root / "locks" / f"{_checked(key)}.lock"
        with ExitStack() as stack:
            with _errors_named("locking", path):
                held = stack.enter_context(locked(path, wait))
            yield held

    def log(self, key: str) -> Path:
        """Where a worker keeps what the step printed."""
        return self.root / "logs" / f"{_checked(key)}.log"

    def unfinished(self, key: str) -> Path:
        """Where a step keeps what outlives a kill, while its key is locked; gone when the step is published."""
        return self.root / "unfinished" / _checked(key)

    def path(self, key: str) -> Path:
        """Where the artifact of this key is, or would be."""
        return self.root / "artifacts" / _checked(key)[:2] / key

    def get(self, key: str) -> Artifact | None:
        """The artifact if it is complete: a sound manifest, and every file there at its size.

        An artifact that can't be read just now (StoreError: permissions, a failing disk) is not a missing one.
        """
        found = self.find(key)
        return found[0] if found and found[1] else None

    def find(self, key: str) -> tuple[Artifact, bool] | None:
        """An artifact and whether it is complete: if not, its model was removed on purpose (`strip_model`), and its
        cost and its records are there. None where it is missing or damaged."""
        path = self.path(key)
        try:
            with _errors_named("reading", path):
                manifest = _manifest(path, key)
                missing = {n for n, entry in manifest["files"].items() if _size(path / n) != entry["size"]}
                if missing and not missing <= _stripped(path, key):
                    return None
        except DamagedError:
            return None
        artifact = Artifact(key, manifest["op"], path, manifest["digest"], manifest["cost"], manifest["meta"])
        return artifact, not missing

    def files(self, key: str) -> dict[str, FileEntry]:
        """What the manifest of this artifact says of its files. Raises DamagedError."""
        with _errors_named("reading", self.path(key)):
            files: dict[str, FileEntry] = _manifest(self.path(key), key)["files"]
        return files

    def verify(self, artifact: Artifact) -> None:
        """Read every byte and compare with the manifest; DamagedError names the first file that differs."""
        for problem in self.damage(artifact.key):
            raise DamagedError(problem)

    def damage(self, key: str) -> list[str]:
        """Every file of an artifact that is not what its manifest says; every byte is read."""
        path = self.path(key)
        try:
            with _errors_named("reading", path):
                expected = self.files(key)
                gone = _stripped(path, key)
                _, found = digest_folder(path, links=False)
        except DamagedError as problem:
            return [str(problem)]
        for name in (MANIFEST, MARK):
            found.pop(name, None)
        out = []
        for name in sorted({*expected, *found}):
            where = f"{path / name}: "
            if name not in found:
                if name not in gone:
                    out.append(where + "the file is missing")
            elif name not in expected:
                if not Path(name).name.startswith("."):  # a file manager's own
                    out.append(where + "the file is not in the manifest")
            elif found[name] != expected[name]:
                out.append(
                    f"{where}found {found[name]['size']} bytes with SHA-256 {found[name]['sha256'][:16]}..., "
                    f"expected {expected[name]['size']} with {expected[name]['sha256'][:16]}..."
                )
        return out

    def verify_input(self, path: Path) -> None:
        """Verify the artifact that `path` lies in, once a process (publishing counts); nothing to do for paths outside
        the store.

        A damaged artifact is removed, so that the next run makes it again, and reported (DamagedError).
        """
        artifacts = self.root / "artifacts"
        if not path.is_relative_to(artifacts):
            return
        key = path.relative_to(artifacts).parts[1]
        artifact = self.get(key)
        try:
            if artifact is None:
                raise DamagedError(f"{self.path(key)}: the artifact is missing or incomplete")
            stamp = _stamp(artifact.path)
            if self._trusted.get(key) != stamp:
                self.verify(artifact)
                self._trusted[key] = stamp
        except DamagedError as problem:
            self.discard(key)
            raise DamagedError(f"{problem}. It was taken out of the store: run again, and it is made anew") from None

    def publish(self, key: str, op: str, folder: Path, cost: Mapping[str, float], meta: Mapping[str, Any]) -> Artifact:
        """Move a scratch folder to its final name, durably: all of it, or (StoreError) nothing of it.

        Where a complete artifact stands already, it stays and is returned: the first to finish wins.
        """
        existing = self.get(key)
        if existing is not None:
            shutil.rmtree(folder, ignore_errors=True)
            return existing
        with _errors_named("storing", self.path(key)):
            digest, files = digest_folder(folder, links=False)
            for name in (MANIFEST, MARK):
                if name in files:
                    raise StoreError(f"{folder / name}: a step may not write a file of this name, it is the store's")
        made = self._publish(key, op, folder, digest, files, cost, meta)
        with suppress(OSError):  # published it is, and otherwise verified once more
            self._trusted[key] = _stamp(made.path)
        return made

    def _publish(
        self,
        key: str,
        op: str,
        folder: Path,
        digest: str,
        files: Mapping[str, FileEntry],
        cost: Mapping[str, float],
        meta: Mapping[str, Any],
    ) -> Artifact:
        same = {"digest": digest, "files": dict(files), "cost": dict(cost), "meta": dict(meta)}
        with _errors_named("storing", self.path(key)):
            write_file(folder / MANIFEST, seal({"format": FORMAT, "key": key, "op": op, **same}))
            self.discard(key)
            replace_folder(folder, self.path(key))
        return Artifact(key, op, self.path(key), digest, dict(cost), dict(meta))

    def adopt(self, key: str, twin: Artifact, meta: Mapping[str, Any]) -> Artifact | None:
        """Publish what `twin` holds under another key too, by links: its files, digest and cost, with other `meta`.

        None where the twin is damaged or gone, or where another process is at work on the key.
        """
        with self.lock(key, wait=False) as held:
            if not held:
                return None
            folder = self.scratch(key)
            try:
                self.verify(twin)
                files = _manifest(twin.path, twin.key)["files"]
                with _errors_named("linking", folder):
                    for name in files:
                        (folder / name).parent.mkdir(parents=True, exist_ok=True)
                        link(twin.path / name, folder / name)
                return self._publish(key, twin.op, folder, twin.digest, files, twin.cost, meta)
            except DamagedError:
                return None
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def read(self, artifact: Artifact, name: str) -> bytes:
        """One file of an artifact, compared with the manifest; a damaged artifact is removed (StoreError)."""
        file = artifact.path / name
        with _errors_named("reading", file):
            data = file.read_bytes()
        expected = _manifest(artifact.path, artifact.key)["files"][name]["sha256"]
        if hashlib.sha256(data).hexdigest() != expected:
            self.discard(artifact.key)
            raise DamagedError(f"{file}: damaged; the artifact was removed: run again, and it is made anew")
        return data

    def scratch(self, key: str) -> Path:
        """A fresh empty folder on the store's file system; it is swept away after this process has ended."""
        with _errors_named("making a scratch folder in", self.root):
            folder = owned_folder(self.root / "tmp") / f"{_checked(key)[:16]}-{secrets.token_hex(4)}"
            folder.mkdir()
        return folder

    def strip_model(self, key: str) -> int:
        """Remove the model of a finished step, keep what is known of it; the bytes freed, 0 where it has no model."""
        path = self.path(key)
        with _errors_named("removing the model of", path):
            files = self.files(key)
            return strip(path, key, files) if is_model(files) else 0

    def discard(self, key: str) -> None:
        """Take what stands under this key away, complete or not; nothing happens where nothing does."""
        path = self.path(key)
        if path.exists():
            with _errors_named("removing", path):
                away = self.scratch(key) / "discarded"
                path.rename(away)
                shutil.rmtree(away.parent, ignore_errors=True)


def _stamp(path: Path) -> tuple[Any, ...]:
    """What differs once a file in this folder was written to."""
    return tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(path.rglob("*")))


def _manifest(path: Path, key: str) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest: dict[str, Any] = unseal(file.read_bytes())
    except (ValueError, KeyError) as problem:
        raise DamagedError(f"{file}: damaged ({problem})") from problem
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise DamagedError(f"{file}: missing") from problem
    if manifest["format"] != FORMAT or manifest["key"] != key:
        raise DamagedError(
            f"{file}: found format {manifest['format']} and key {manifest['key']}, expected {FORMAT} and {key}"
        )
    return manifest


def _stripped(path: Path, key: str) -> frozenset[str]:
    try:
        return stripped_files(path, key)
    except ValueError as problem:
        raise DamagedError(f"{path / MARK}: damaged ({problem})") from problem


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _checked(key: str) -> str:
    if not re.fullmatch(r"[0-9a-z][0-9a-z_-]{2,127}", key):
        raise StoreError(f"{key!r} can't be a key of the store: expected a digest in hex")
    return key


@contextmanager
def _errors_named(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        fix = ""
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
            fix = f" ({free / 1e6:,.0f} MB are free); free some space and run again"
        where = f" ({os.fspath(problem.filename)})" if problem.filename is not None else ""
        raise StoreError(f"{doing} {path} failed: {problem.strerror or problem}{where}{fix}") from problem
