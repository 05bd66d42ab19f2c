"""A finished step without its model: the weights are gone, what is known of the step (cost, curve, choice) stays.

What needs no weights goes on: running a study again computes nothing, since its predictions are there. A step
that is asked for its model is computed again, like one that never ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunemerge.store.atomic import write_file
from tunemerge.store.digest import FileEntry, seal, unseal

MARK = "stripped.json"
_RECORD = 1 << 16  # bytes: a larger JSON file is a part of the model (a tokenizer, an index), not a record


def is_model(files: Mapping[str, FileEntry]) -> bool:
    return any(name.endswith(".safetensors") for name in files)


def strip(folder: Path, key: str, files: Mapping[str, FileEntry]) -> int:
    """Remove the model's files of an artifact whose manifest has `files`; the bytes that were freed.

    The mark is written first: a kill in between leaves files that the mark says are gone, which harms nothing.
    """
    gone = [name for name, entry in files.items() if not name.endswith(".json") or entry["size"] > _RECORD]
    write_file(folder / MARK, seal({"key": key, "files": gone}))
    freed = 0
    for name in gone:
        if (folder / name).exists():
            freed += (folder / name).stat().st_size
            (folder / name).unlink()
    return freed


def stripped_files(folder: Path, key: str) -> frozenset[str]:
    """The files that were removed on purpose; none where there is no mark. ValueError where the mark is damaged."""
    try:
        mark = unseal((folder / MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except KeyError as problem:
        raise ValueError(f"no {problem} in it") from problem
    if mark["key"] != key:
        raise ValueError(f"found the mark of {mark['key']}")
    return frozenset(mark["files"])
