"""Digests: of JSON values (keys of steps), of files and of folders (content of artifacts), and sealed lines."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

from tunemerge.errors import StoreError


class FileEntry(TypedDict):
    """What a manifest says of one file: `size` in bytes, `sha256` of the content in hex."""

    size: int
    sha256: str


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, no NaN or infinity (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`; tuples count as lists."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(
    path: Path, *, links: bool = True, digest: Callable[[Path], str] = digest_file
) -> tuple[str, dict[str, FileEntry]]:
    """Digest of a folder's content and the entry of each file, by its path inside the folder (with "/").

    Names and bytes count; modes, times and empty folders don't. Links to files are read through, unless
    `links` is False; links to folders, sockets and the like are refused (StoreError naming the path).
    `digest` gives a file's SHA-256: `remember.file_digest` where files that were read before may be believed.
    """
    files: dict[str, FileEntry] = {}
    for name, file in sorted(_files(path, path, links)):
        files[name] = FileEntry(size=file.stat().st_size, sha256=digest(file))
    return digest_json(files), files


def _files(root: Path, folder: Path, links: bool) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, path, links)
        elif (entry.is_symlink() and not links) or not stat.S_ISREG(entry.stat().st_mode):
            raise StoreError(f"{path}: found a link or special file where only plain files and folders can be kept")
        else:
            yield path.relative_to(root).as_posix(), path


def seal(value: Any) -> bytes:
    """One line of JSON that carries the digest of its own content."""
    text = canonical(value)
    return f'{{"sha256":"{hashlib.sha256(text.encode()).hexdigest()}","entry":{text}}}\n'.encode()


def unseal(line: bytes) -> Any:
    """The value in a sealed line, or ValueError where a single bit of the line is not as it was sealed."""
    value = json.loads(line)["entry"] if line.startswith(b'{"sha256":"') else None
    if value is None or seal(value) != line:
        raise ValueError("the line does not match its checksum")
    return value
