"""Where the keys of a study stand, so that every finding about one says it: a line of the file, or a --set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tunemerge.findings import ORDER, Finding
from tunemerge.yamlfile import KeyPath

_LINE = re.compile(r":(\d+)(?= |,|$)")
_SHOWN = 4


@dataclass(frozen=True)
class Places:
    """`lines` has the 1-based line of every key path in `file`; `overridden` the key paths that --set gave."""

    file: str = ""
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overridden: tuple[KeyPath, ...] = ()

    def of(self, key: KeyPath) -> str:
        """'study.yaml:12' for the key, or for the nearest enclosing key that the file has; '--set seeds'."""
        given = next((o for o in self.overridden if key[: len(o)] == o), None)
        if given is not None:
            return f"--set {dotted(given)}"
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.file}:{self.lines[key]}" if key in self.lines else self.file

    def placed(self, findings: Iterable[Finding]) -> list[Finding]:
        """The same findings: those about a key (`where` begins with it, 'tasks.a.files (a.csv)') say where it stands,
        those that only differ in their place are one, and they are in the order of severity, then of the file."""
        placed = [replace(f, where=self._where(f.where)) for f in findings]
        together: dict[Finding, list[str]] = {}
        for finding in placed:
            places = together.setdefault(replace(finding, where=""), [])
            if finding.where not in places:
                places.append(finding.where)
        return in_order(replace(finding, where=_together(places)) for finding, places in together.items())

    def _where(self, where: str) -> str:
        named = where.split(" ")[0]
        keys = [*self.overridden, *self.lines]
        known = [k for k in keys if k and (named == dotted(k) or named.startswith(dotted(k) + "."))]
        if not known:
            return where
        key = max(known, key=lambda k: len(dotted(k)))
        stands = self.of(key)
        if stands == f"--set {where}":
            return stands
        inside = [o for o in self.overridden if len(o) > len(key) and o[: len(key)] == key]
        also = f" with --set {', '.join(map(dotted, inside))}" if inside else ""
        return where if where.startswith(stands) else f"{stands} {where}{also}"


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By severity, then what --set gave, then line by line, then what has no line."""
    return sorted(findings, key=_order)


def dotted(key: KeyPath) -> str:
    return ".".join(map(str, key))


def _together(places: list[str]) -> str:
    more = len(places) - _SHOWN
    return ", ".join(places[:_SHOWN]) + (f" and {more} more places" if more > 0 else "")


def _order(finding: Finding) -> tuple[int, int]:
    line = _LINE.search(finding.where)
    unplaced = 0 if finding.where.startswith("--set") else 10**9
    return ORDER[finding.severity], int(line[1]) if line else unplaced
