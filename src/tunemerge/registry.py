"""Named things of one kind (methods, strategies, tasks, metrics, operations).

Those of this package are found by dropping a file in a folder, those of installed packages by their entry points, and
those of a person's own files by naming the files (`tunemerge.plugins`).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tunemerge.errors import UsageError
from tunemerge.findings import Finding
from tunemerge.plugin_code import Plugin, being_loaded, failure, loading, read_plugin

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


class NameTakenError(UsageError):
    """Something of this kind has this name already; the message says where each of the two is."""


class Origin(NamedTuple):
    """Who registered a name: the module, its file and line, and the plug-in that was being loaded."""

    module: str
    file: str
    line: int
    plugin: Plugin | None

    @property
    def built_in(self) -> bool:
        return self.module.partition(".")[0] == "tunemerge"

    def __str__(self) -> str:
        return f"{self.module} (built in)" if self.built_in else f"{self.file}:{self.line}"


class Registry(Generic[T]):
    """A mapping from name to T, filled on first use by importing every module of `package` and the modules that
    installed packages name as entry points of `group`.

    Modules register what they define when they are imported, so adding a thing is adding a file. Iteration is in name
    order. `problems` are the entry points that could not be loaded: warnings, since nobody may have asked for them.
    """

    def __init__(self, kind: str, package: str | None = None, group: str | None = None) -> None:
        self.kind, self._package, self._group = kind, package, group
        self._items, self._origins = dict[str, T](), dict[str, Origin]()
        self.problems: list[Finding] = []
        REGISTRIES.append(self)

    def _load_own(self) -> None:
        package, self._package = self._package, None
        if package:
            for module in sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__)):
                try:
                    importlib.import_module(f"{package}.{module}")
                except BaseException:  # whoever asks next hears of it too, instead of finding half of the names
                    self._package = package
                    for name in [n for n, o in self._origins.items() if o.module == f"{package}.{module}"]:
                        del self._items[name], self._origins[name]
                    raise

    def _load(self) -> None:
        self._load_own()
        group, self._group = self._group, None
        if group:
            found = (_load_entry(entry) for entry in sorted(_every_entry().select(group=group)))
            self.problems += [problem for problem in found if problem is not None]

    def add(self, name: str, item: T) -> T:
        """Raises NameTakenError where there is one of this name, which stays."""
        origin = _registering()
        if not origin.built_in:
            self._load()
        if name in self._items:
            there = self._origins[name]
            raise NameTakenError(f"there is a {self.kind} {name!r} already, in {there}; {origin} needs another name")
        self._items[name], self._origins[name] = item, origin
        return item

    def names(self) -> list[str]:
        self._load()
        return sorted(self._items)

    def origin(self, name: str) -> Origin:
        """Who registered this name. Raises UnknownNameError."""
        _ = self[name]
        return self._origins[name]

    def plugin(self, name: str) -> Plugin | None:
        """The plug-in that a name comes from; None for what is built in or was registered by hand."""
        return self.origin(name).plugin

    def code(self, name: str) -> dict[str, str]:
        """What the key of a step that runs this thing needs besides its name: the digest of a plug-in's code."""
        plugin = self.plugin(name)
        return {f"{self.kind} {name}": plugin.digest} if plugin is not None else {}

    def plugins(self) -> set[Plugin]:
        """The plug-ins that something here comes from."""
        return {origin.plugin for origin in self._origins.values() if origin.plugin is not None}

    def brought(self, path: Path) -> list[str]:
        """The names that the plug-in of this file registered."""
        return sorted(n for n, o in self._origins.items() if o.plugin is not None and o.plugin.path == path)

    def by_hand(self, name: str) -> bool:
        """Whether a name was registered in this process alone: another one, a worker, can't know it."""
        origin = self.origin(name)
        return not origin.built_in and origin.plugin is None

    def take(self, plugin: Plugin) -> dict[str, tuple[T, Origin]]:
        """Take out, and return, what a plug-in of this file registered, and what its files registered by hand."""
        by = {name: o.plugin.path == plugin.path if o.plugin else Path(o.file) in plugin.files
              for name, o in self._origins.items()}  # fmt: skip
        own = [name for name, is_own in by.items() if is_own]
        return {name: (self._items.pop(name), self._origins.pop(name)) for name in own}

    def put(self, taken: dict[str, tuple[T, Origin]]) -> None:
        """Back in, what `take` took out."""
        for name, (item, origin) in taken.items():
            self._items[name], self._origins[name] = item, origin

    def __contains__(self, name: str) -> bool:
        self._load_own()  # looking through what is installed takes 40 ms, and only unknown names need it
        if name not in self._items:
            self._load()
        return name in self._items

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise UnknownNameError(f"unknown {self.kind} {name!r}{nearest(name, self.names())}")
        return self._items[name]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        self._load()
        return iter(sorted(self._items.items()))


REGISTRIES: list[Registry[Any]] = []
"""All of them, so that loading a plug-in can be undone whatever it registered."""


def _registering() -> Origin:
    """The module at whose top the call stands that registers: methods and strategies are registered by helpers, so the
    caller's own module says nothing."""
    frame = sys._getframe(1)
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__", ""))
    origin = Origin(module, frame.f_code.co_filename, frame.f_lineno, None)
    return origin if origin.built_in else origin._replace(plugin=being_loaded())


@cache
def _every_entry() -> EntryPoints:
    found: EntryPoints = entry_points()  # type: ignore[assignment]  # before Python 3.12 another class with `select`
    return found


def _load_entry(entry: EntryPoint) -> Finding | None:
    """Import the module of an entry point, whose code registers; what is wrong with it, if something is."""
    package = entry.module.partition(".")[0]
    who = f"entry point {entry.group}: {entry.name} = {entry.value}" + (f" of {entry.dist.name}" if entry.dist else "")
    plugin = Plugin(Path(entry.module), package, (), "")
    try:
        spec = importlib.util.find_spec(entry.module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"No module named {entry.module!r}", name=entry.module)
        plugin = read_plugin(Path(spec.origin), package)
        with loading(plugin):
            importlib.import_module(entry.module)
    except (Exception, SystemExit) as problem:
        for registry in REGISTRIES:
            registry.take(plugin)
        found = failure(plugin, problem, who)
        return Finding(found.code, "warning", found.message, found.where, found.remedy)
    return None
