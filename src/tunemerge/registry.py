"""Named things of one kind (methods, strategies, tasks, operations), found by dropping a file in a folder."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from tunemerge.errors import UsageError

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> str:
    """A ready-made '; did you mean ...?' for the closest known names, or the whole list when none is close."""
    flat = {k.replace("-", "_").lower(): k for k in known}
    close = difflib.get_close_matches(name.replace("-", "_").lower(), list(flat), n=2, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(flat[c]) for c in close) + "?"
    return "; known: " + ", ".join(known)


def listed(names: Iterable[object], limit: int = 8) -> str:
    """The first names in words, and how many more there are."""
    every = [str(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


class UnknownNameError(UsageError):
    """No thing of this kind has this name; the message suggests near ones."""


class Registry(Generic[T]):
    """A mapping from name to T, filled by importing every module of `package` on first use.

    Modules register what they define when they are imported, so adding a thing is adding a file.
    Iteration is in name order.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind, self._package, self._items = kind, package, dict[str, T]()

    def _load(self) -> None:
        package, self._package = self._package, None
        if package:
            for module in sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__)):
                importlib.import_module(f"{package}.{module}")

    def add(self, name: str, item: T) -> T:
        if name in self._items:
            raise ValueError(f"two {self.kind}s are called {name!r}")
        self._items[name] = item
        return item

    def names(self) -> list[str]:
        self._load()
        return sorted(self._items)

    def __contains__(self, name: str) -> bool:
        self._load()
        return name in self._items

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._items:
            raise UnknownNameError(f"unknown {self.kind} {name!r}{nearest(name, self.names())}")
        return self._items[name]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        self._load()
        return iter(sorted(self._items.items()))
