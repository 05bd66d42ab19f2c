"""Having the disk back: which steps go, which lose only their model, and which stay.

What a live run holds always stays (`holds`), and so does the journal: it knows which test rows were opened.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tunemerge.store.artifacts import Store
from tunemerge.store.holds import gate
from tunemerge.store.inventory import Entry, disk_usage, entries
from tunemerge.store.lock import locked
from tunemerge.store.sealed import SEAL


@dataclass(frozen=True)
class Sweep:
    """What goes: whole steps (`remove`), models of steps (`strip`), and what is left of rows, logs, killed steps and
    dead processes."""

    remove: tuple[Entry, ...]
    strip: tuple[Entry, ...]
    keep: tuple[Entry, ...]
    held: tuple[Entry, ...]
    loose: tuple[Path, ...]

    @property
    def empty(self) -> bool:
        return not (self.remove or self.strip or self.loose)


Choice = Callable[[Entry], str]
"""What becomes of a step: "keep", "strip" (its model goes, what is known of it stays) or "remove"."""


def plan_sweep(store: Store, choice: Choice, held: Collection[str] = (), *, loose: bool = True) -> Sweep:
    """What would go; nothing is touched. A step that is incomplete always goes, one that is `held` never does.

    `loose`: also rows and logs of steps that go.
    """
    parts: dict[str, list[Entry]] = {"remove": [], "strip": [], "keep": [], "held": []}
    for entry in entries(store):
        fate = "remove" if entry.state == "incomplete" else choice(entry)
        if fate == "strip" and not (entry.model and entry.state == "complete"):
            fate = "keep"
        if fate != "keep" and entry.key in held:
            fate = "held"
        parts[fate].append(entry)
    stays = {key for e in (*parts["keep"], *parts["strip"], *parts["held"]) for key in (e.key, *e.inputs)}
    files = [p for p in _loose(store.root) if p.name.removesuffix(SEAL).split(".")[0] not in {*stays, *held}]
    return Sweep(
        tuple(parts["remove"]),
        tuple(parts["strip"]),
        tuple(parts["keep"]),
        tuple(parts["held"]),
        tuple(files) if loose else (),
    )


def sweep(store: Store, choice: Choice, *, loose: bool = True) -> tuple[Sweep, int]:
    """Remove what `choice` lets go, while no run can begin; what went, and the bytes that this freed.

    A step that another process computes at this moment stays, too. Raises StoreError.
    """
    if not store.root.exists():
        return Sweep((), (), (), (), ()), 0
    before = disk_usage(store.root)
    with gate(store.root) as held:
        found = plan_sweep(store, choice, held, loose=loose)
        for entry in (*found.remove, *found.strip):
            with store.lock(entry.key, wait=False) as free:
                if free:
                    store.discard(entry.key) if entry in found.remove else store.strip_model(entry.key)
        for file in found.loose:
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        _remove_dead(store.root / "tmp")
    return found, max(0, before - disk_usage(store.root))


def _loose(root: Path) -> Iterable[Path]:
    """Rows, logs and what killed steps left, which belong to steps by the key in their names."""
    files = [p for folder in ("rows", "logs") for p in sorted((root / folder).glob("*")) if p.is_file()]
    return [*files, *sorted((root / "unfinished").glob("*"))]


def _remove_dead(folder: Path) -> None:
    """The scratch folders of processes that are gone."""
    if not folder.exists():
        return
    with locked(folder / ".lock"):  # what every process takes before it makes its scratch folder
        for lock in sorted(folder.glob("*.lock")):
            if lock.name == ".lock":
                continue
            with locked(lock, wait=False) as dead:
                if dead:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
