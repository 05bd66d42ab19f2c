"""What a store has: every finished step with its size, age and cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunemerge.store.artifacts import MANIFEST, Store
from tunemerge.store.strip import is_model

State = Literal["complete", "stripped", "incomplete"]


@dataclass(frozen=True)
class Entry:
    """One folder of the store. `size`: bytes on disk; `made`: seconds since 1970; `inputs`: keys.

    `stripped`: its model was removed on purpose, what is known of it stays. `incomplete`: it counts as missing.
    """

    key: str
    op: str
    label: str
    state: State
    model: bool
    size: int
    made: float
    cost: Mapping[str, float]
    inputs: frozenset[str]


def entries(store: Store) -> list[Entry]:
    """Every step in the store, the oldest first. Reads manifests and sizes, no content. Raises StoreError."""
    folders = [p for p in (store.root / "artifacts").glob("*/*") if p.is_dir() and not p.name.startswith(".")]
    return sorted((_entry(store, folder) for folder in folders), key=lambda e: (e.made, e.key))


def disk_usage(root: Path) -> int:
    """Bytes of all files under `root`, each once however many names it has; 0 where there is no such folder."""
    found: dict[tuple[int, int], int] = {}
    for parent, _, files in os.walk(root):
        for name in files:
            try:
                stat = (Path(parent) / name).lstat()
            except FileNotFoundError:  # a run is at work
                continue
            found[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(found.values())


def _entry(store: Store, folder: Path) -> Entry:
    key, size = folder.name, disk_usage(folder)
    found = store.find(key)
    if found is None:
        return Entry(key, "?", "", "incomplete", False, size, _made(folder), {}, frozenset())
    known, complete = found
    files = store.files(key)
    meta: Mapping[str, Any] = known.meta
    return Entry(
        key=key,
        op=known.op,
        label=str(meta.get("label", "")),
        state="complete" if complete else "stripped",
        model=is_model(files),
        size=size,
        made=_made(folder / MANIFEST),
        cost=known.cost,
        inputs=frozenset(k for keys in meta.get("inputs", {}).values() for k in keys),
    )


def _made(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
