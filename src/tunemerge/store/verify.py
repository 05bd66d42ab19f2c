"""Reading a whole store again: every bit that flipped, every file that went missing or was added, by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tunemerge.errors import StoreError
from tunemerge.findings import Finding, error
from tunemerge.progress import Tell
from tunemerge.store.artifacts import Store
from tunemerge.store.sealed import SEAL, damage

_AGAIN = 0.2  # seconds


def verify_store(store: Store, progress: Tell = lambda fraction, message: None) -> list[Finding]:
    """One error for every file that is not as it was stored. Reads every byte of artifacts, rows and journal.

    Progress is told by artifacts. A step that a live run publishes meanwhile may be left out.
    """
    root, found = store.root, list[Finding]()
    folders = sorted((root / "artifacts").glob("*/*"))
    for number, folder in enumerate(folders):
        progress(number / len(folders), folder.name[:10])
        found += _artifact(store, folder)
    found += [_strange(p, "artifacts of two letters") for p in sorted((root / "artifacts").glob("*")) if not p.is_dir()]
    found += _rows(root / "rows")
    found += [error("store-damaged", text, remedy=fix) for text, fix in store.journal.damage()]
    return found


def _artifact(store: Store, folder: Path) -> list[Finding]:
    if folder.name.startswith("."):  # what a kill left of a folder that was replaced
        return []
    if not folder.is_dir() or not folder.name.startswith(folder.parent.name):
        return [_strange(folder, "folders of steps")]
    try:
        problems = store.damage(folder.name)
    except StoreError as problem:
        problems = [str(problem)]
    if problems and not folder.exists():  # somebody removed it meanwhile
        return []
    fix = f"remove the folder {folder}; the next run that needs it makes it anew"
    return [error("store-damaged", problem, remedy=fix) for problem in problems]


def _rows(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob("*")):
        if path.name.endswith(SEAL):
            path = path.with_name(path.name.removesuffix(SEAL))
            if path.exists():
                continue
        if path.name.startswith("."):
            continue
        problem = damage(path)
        if problem:  # or a run was just writing it
            time.sleep(_AGAIN)
            problem = damage(path)
        if problem:
            yield error("store-damaged", f"{path}: {problem}", remedy="remove it; the next run writes it again")


def _strange(path: Path, expected: str) -> Finding:
    return error("store-strange", f"{path}: not a part of a store; expected only {expected} here", remedy="remove it")
