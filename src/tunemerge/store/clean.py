"""How much disk a store takes, and how to have it back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tunemerge.errors import StoreError
from tunemerge.store.artifacts import MANIFEST
from tunemerge.store.lock import locked

_REMOVED = ("artifacts", "logs", "rows")


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


def finished_steps(root: Path) -> list[Path]:
    """The manifests of the steps in a store."""
    return sorted((root / "artifacts").glob(f"*/*/{MANIFEST}"))


def remove_steps(root: Path) -> None:
    """Remove every finished step, its log and the rows it read. Raises StoreError while a run is at work.

    The journal stays: it knows which test rows were opened before. A kill in between leaves incomplete steps, which
    count as missing. Locks stay too: removing one that another process is about to take is a race.
    """
    if not root.exists():
        return
    with locked(root / "tmp" / ".lock"):  # what every process takes before it makes its scratch folder
        for lock in sorted((root / "tmp").glob("*.lock")):
            if lock.name != ".lock":
                with locked(lock, wait=False) as dead:
                    if not dead:
                        raise StoreError(f"{root}: a run is at work in this store; wait until it ends, then clean")
        for name in _REMOVED:
            if (root / name).exists():
                shutil.rmtree(root / name)
