"""Loading files of a person's own, which register methods, strategies, tasks and metrics as this package's files do."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.plugin_code import Plugin, failure, loading, local_names, read_plugin
from tunemerge.registry import REGISTRIES

_loaded: dict[Path, Plugin] = {}
_modules: dict[Path, ModuleType] = {}


def load_plugin(path: str | Path, where: str = "") -> Plugin:
    """Run a Python file that registers things; a file that was loaded before only where it, or a local module that it
    imports, has changed since.

    Its folder comes last on the import path, so that it may import modules beside it and shadows none. Raises
    FindingsError with one finding, its file and line, where it can't be loaded; everything is as it was then. `where`
    is the key that names the file.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        what = "is a folder; name a Python file" if file.is_dir() else "no such file"
        raise FindingsError([error("plugin", f"{file}: {what}", where)])
    try:
        plugin, before = read_plugin(file), _loaded.get(file)
    except OSError as problem:
        raise FindingsError([error("plugin", f"{problem.filename}: {problem.strerror}", where)]) from None
    if before is not None and before.digest == plugin.digest:
        return before
    on_path = str(file.parent) in sys.path
    if not on_path:
        sys.path.append(str(file.parent))
    taken = [(registry, registry.take(plugin)) for registry in REGISTRIES]
    modules = _forget_modules(plugin, before)
    try:
        _refuse_shadowed(plugin)
        with loading(plugin):
            _run(plugin)
        if read_plugin(file).digest != plugin.digest:
            raise UsageError("it changed while it was being loaded; try again")
    except (Exception, SystemExit) as problem:
        for registry, items in taken:
            registry.take(plugin)
            registry.put(items)
        _forget_modules(plugin, before)
        sys.modules.update(modules)
        if not on_path:
            sys.path.remove(str(file.parent))
        raise FindingsError([failure(plugin, problem, where)]) from problem
    _loaded[file] = plugin
    return plugin


def load_plugins(paths: Mapping[str, Path]) -> list[Finding]:
    """Load files, each under the key that names it; a finding for every one that can't be loaded."""
    found: list[Finding] = []
    for where, path in paths.items():
        try:
            load_plugin(path, where)
        except FindingsError as problem:
            found += problem.findings
    return found


def used_plugins(digests: Iterable[object]) -> list[dict[str, str | None]]:
    """The plug-ins whose digests are among these, as `ensure_plugin` takes them in another process."""
    wanted = set(digests)
    every = [*_loaded.values(), *(p for registry in REGISTRIES for p in registry.plugins())]
    plugins = {p.digest: p for p in every if p.digest in wanted}
    return [{"path": str(p.path), "package": p.package, "digest": p.digest} for _, p in sorted(plugins.items())]


def loaded_plugin(digest: str) -> Plugin | None:
    """The file of a person's own with this code, where it was loaded."""
    return next((plugin for plugin in _loaded.values() if plugin.digest == digest), None)


def module_of(plugin: Plugin) -> ModuleType:
    """What a loaded file defines."""
    return _modules[plugin.path]


def ensure_plugin(path: str, package: str | None, digest: str) -> None:
    """Have exactly this plug-in loaded here. Raises UsageError where its code is another one by now."""
    plugin = load_plugin(path) if package is None else read_plugin(Path(path), package)
    if plugin.digest != digest:
        raise UsageError(f"{path}: it, or a module that it imports, changed since the plan was made: run again")


def _run(plugin: Plugin) -> None:
    name = f"_tunemerge_plugin_{plugin.path.stem}"
    spec = importlib.util.spec_from_file_location(name, plugin.path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{plugin.path.name} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # In sys.modules by a name that no import statement finds: dataclasses and pickling look their module up there.
    sys.modules[name] = module
    importlib.invalidate_caches()
    spec.loader.exec_module(module)
    _modules[plugin.path] = module


def _forget_modules(plugin: Plugin, before: Plugin | None) -> dict[str, ModuleType]:
    """Take the modules of a plug-in's files out of sys.modules, so that they are read again. Their bytecode goes too: a
    late import may have written it, and its check by seconds and size misses an edit that follows at once."""
    files = {file for one in (plugin, before) if one is not None for file in one.files}
    for file in files:
        with suppress(OSError):
            Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    known = {file.name for file in files}
    places = [(name, Path(getattr(module, "__file__", None) or "")) for name, module in list(sys.modules.items())]
    names = [name for name, place in places if place.name in known and place.resolve() in files]
    return {name: sys.modules.pop(name) for name in names}


def _refuse_shadowed(plugin: Plugin) -> None:
    """UsageError where a module beside the file has the name of another one, which would be imported in its stead."""
    for name in sorted(local_names(plugin.path)):
        spec = importlib.util.find_spec(name)
        places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
        if not any(place and Path(place).is_relative_to(plugin.path.parent) for place in places):
            other = next((place for place in places if place), "another module")
            raise UsageError(f"it imports {name} from beside it, but that name belongs to {other}: rename yours")
