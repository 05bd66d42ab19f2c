"""Code from outside this package: which files it is made of, their digest, and what went wrong where it can't run.

The files are found by reading, not by running: every `import` in the file, at its top or inside functions, that names
a module beside it (of a package: a module of the same package), and so on through those. What is imported by a name
made at run time, and data files, are not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, FindingsError, error


@dataclass(frozen=True)
class Plugin:
    """Code that registers something. `package` is the top-level package of an installed module, None for a file that
    stands alone; `digest` covers `files`: `path` and the local modules that it imports."""

    path: Path
    package: str | None
    files: tuple[Path, ...]
    digest: str

    def __str__(self) -> str:
        return str(self.path)


_loading: ContextVar[Plugin | None] = ContextVar("loading", default=None)


def read_plugin(path: Path, package: str | None = None) -> Plugin:
    """The plug-in in a file, as it is on disk now. Raises OSError; files that are no Python count as they are."""
    root = path.parent
    if package is not None:
        root = next(p for p in path.parents if p.name == package).parent if path.stem != package else path.parent
    files = [path, *sorted(_imported(path, root, package) - {path})]
    digest = hashlib.sha256()
    for file in files:
        name = "" if file == path else file.relative_to(root).as_posix()
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return Plugin(path, package, tuple(files), digest.hexdigest())


def being_loaded() -> Plugin | None:
    """The plug-in that is running its module's code right now."""
    return _loading.get()


@contextmanager
def loading(plugin: Plugin) -> Iterator[None]:
    """What is registered inside belongs to `plugin`. No bytecode is written: its check by seconds and size misses an
    edit that follows at once."""
    token, kept = _loading.set(plugin), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = kept
        _loading.reset(token)


def failure(plugin: Plugin, problem: BaseException, where: str = "") -> Finding:
    """What its code raised, with the file and line of the plug-in's own that it came from; `where` is who asked."""
    own = [f for f in traceback.extract_tb(problem.__traceback__) if Path(f.filename) in plugin.files]
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else str(plugin.path)
    if isinstance(problem, SyntaxError) and problem.filename:
        place = f"{problem.filename}:{problem.lineno}"
    if isinstance(problem, FindingsError):
        said = "; ".join(f.message for f in problem.findings)
    elif isinstance(problem, TunemergeError):
        said = str(problem)
    else:
        said = "".join(traceback.format_exception_only(problem)[-1:]).strip()
    remedy = ""
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        remedy = f"install {problem.name}, or put {problem.name}.py beside {plugin.path.name}"
    return error("plugin", f"can't be loaded: {said}", f"{where} ({place})" if where else place, remedy)


def local_names(path: Path) -> set[str]:
    """The modules and packages beside a file that it, or what it imports from there, imports by name."""
    return {file.relative_to(path.parent).parts[0].removesuffix(".py") for file in _imported(path, path.parent, None)}


def _imported(path: Path, root: Path, package: str | None) -> set[Path]:
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        for name in _names(file, root):
            first = name.split(".")[0]
            if first in sys.stdlib_module_names or (package is not None and first != package):
                continue
            new = set(_files_of(name, root)) - found
            found |= new
            waiting += new
    return found


def _names(file: Path, root: Path) -> Iterator[str]:
    """The full names of all modules that a file may import; a name imported from a package may be one."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError):
        return  # it can't be imported either, and says so then
    here = file.relative_to(root).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module:
                yield module
            yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)


def _files_of(name: str, root: Path) -> Iterable[Path]:
    """The files that importing a module runs: its own and its packages' `__init__`."""
    place = root
    for part in name.split("."):
        module = place / f"{part}.py"
        place = place / part
        if (place / "__init__.py").is_file():
            yield place / "__init__.py"
        elif module.is_file():
            yield module
            return
        elif not place.is_dir():
            return
