"""rank_pattern and alpha_pattern of an adapter's configuration: which entry applies to a module.

PEFT takes the first key for which `(.*\\.)?(KEY)$` matches the module's name. Keys come from files that are not
trusted, and a regular expression can take for ever: plain names are compared as text, and expressions are held to a
simple form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunemerge.errors import CheckpointError

_PLAIN = re.compile(r"\^?(?:[\w-]|\\?\.)+\$?")
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_LONGEST, _MOST_REPEATS = 512, 3


def values_by_module(path: Path, patterns: Mapping[str, Any], default: Any) -> Callable[[str], Any]:
    """From a module's name to the value of the first key that matches it, else `default`.

    Raises CheckpointError, naming `path` and the key, for an expression that can't be read.
    """
    plain: dict[str, int] = {}
    expressions: list[tuple[int, re.Pattern[str]]] = []
    values = [*patterns.values(), default]
    for index, key in enumerate(patterns):
        if _PLAIN.fullmatch(key):
            # "^" only fits where the whole name follows: PEFT tries the key at the start too.
            plain.setdefault(key.removesuffix("$").replace("\\.", "."), index)
        else:
            expressions.append((index, _compile(path, key)))

    def value(module: str) -> Any:
        found = [plain[name] for name in (f"^{module}", module, *_suffixes(module)) if name in plain]
        if len(module) <= _LONGEST:
            found += [index for index, expression in expressions if expression.match(module)]
        return values[min(found, default=-1)]

    return value


def keys_of_modules(modules: Iterable[str]) -> dict[str, str]:
    """For each module a key that matches it and none of the others."""
    names = list(modules)
    ambiguous = {suffix for name in names for suffix in _suffixes(name)}
    return {name: f"^{name}" if name in ambiguous else name for name in names}


def _suffixes(module: str) -> Iterator[str]:
    while "." in module:
        module = module.partition(".")[2]
        yield module


def _compile(path: Path, key: str) -> re.Pattern[str]:
    repeats = sum(key.count(sign) for sign in "*+{")
    if _REPEATED_GROUP.search(key) or repeats > _MOST_REPEATS or len(key) > _LONGEST:
        raise CheckpointError(f"{path}: the pattern {key[:80]!r} is too involved to be read; write the modules' names")
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except re.error as problem:
        raise CheckpointError(f"{path}: the pattern {key!r} is no regular expression: {problem}") from None
