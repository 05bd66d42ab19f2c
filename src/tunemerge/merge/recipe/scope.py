"""Which tensors belong to which of a recipe's modules."""

from __future__ import annotations

from collections.abc import Sequence

from tunemerge.checkpoint.naming import is_number
from tunemerge.findings import Finding, error
from tunemerge.registry import nearest

_REST = ("", "default", "text_decoder")
"""Modules that take what no other one claims: the whole model, and mergekit's names of a language model."""

_ALSO = {"vision_tower": ("visual",), "vision_model": ("visual",), "multi_modal_projector": ("visual.merger",)}
"""mergekit's names of modules whose tensors are called otherwise in some models."""


def claim(modules: Sequence[str], names: Sequence[str]) -> tuple[list[set[str]], list[Finding]]:
    """For every module the names of its tensors, and what is wrong.

    A module is a prefix of names (`encoder`), or their end of one (`model.encoder`), where that is the only one.
    Of nested modules the longer prefix wins.
    """
    findings: list[Finding] = []
    prefixes: dict[str, str] = {}
    for module in modules:
        if module in _REST:
            continue
        found = next((p for word in (module, *_ALSO.get(module, ())) if (p := _prefixes(word, names))), [])
        if len(found) == 1:
            prefixes[module] = found[0]
        elif found:
            text = f"the module {module!r} could be {' or '.join(map(repr, found))}"
            findings.append(error("recipe-module", text, remedy="write the whole prefix"))
        else:
            known = sorted({part for name in names for part in _parents(name)})
            text = f"no tensor's name has the module {module!r}{nearest(module, known[:30])}"
            findings.append(error("recipe-module", text, remedy="a module is a prefix of tensor names"))
    rest = [module for module in modules if module in _REST]
    if len(rest) > 1:
        findings.append(error("recipe-module", f"{rest[0]!r} and {rest[1]!r} both mean what is left over"))
    claims: dict[str, set[str]] = {module: set() for module in modules}
    for name in names:
        fits = [m for m, prefix in prefixes.items() if name.startswith(prefix + ".")]
        owner = max(fits, key=lambda m: len(prefixes[m]), default=rest[0] if rest else None)
        if owner is not None:
            claims[owner].add(name)
    return [claims[module] for module in modules], findings


def _prefixes(module: str, names: Sequence[str]) -> list[str]:
    """The prefixes that end with `module`, the shortest ones only."""
    if any(name.startswith(module + ".") for name in names):
        return [module]
    inner = "." + module + "."
    found = {name[: name.index(inner) + len(inner) - 1] for name in names if inner in name}
    shortest = min((prefix.count(".") for prefix in found), default=0)
    return sorted(prefix for prefix in found if prefix.count(".") == shortest)


def _parents(name: str) -> list[str]:
    """The first parts of a name, up to the first number: what a module could be called."""
    parts = name.split(".")[:-1]
    stop = next((i for i, part in enumerate(parts) if is_number(part)), len(parts))
    return [".".join(parts[:i]) for i in range(1, min(stop, 3) + 1)]
