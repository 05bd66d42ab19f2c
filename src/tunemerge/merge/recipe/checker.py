"""Collects findings about a recipe, each with the line that it is about; all of them come at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tunemerge.errors import UsageError
from tunemerge.findings import Finding, error, warning
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.recipe.names import Exists, parse_model
from tunemerge.merge.recipe.parts import ModelRef, Settings
from tunemerge.merge.recipe.values import check_setting
from tunemerge.registry import nearest
from tunemerge.yamlfile import KeyPath, Lines


class Checker:
    """`findings` may be shared by the documents of one file. `names` are the models so far, by the repr of what is
    written."""

    def __init__(self, path: Path, lines: Lines, exists: Exists, findings: list[Finding] | None = None) -> None:
        self.path, self._lines, self._exists = path, lines, exists
        self.findings: list[Finding] = [] if findings is None else findings
        self.names: dict[str, ModelRef] = {}

    def line(self, at: KeyPath) -> int:
        """The line of the key at `at`, or of the nearest key above it that is written."""
        while at and at not in self._lines:
            at = at[:-1]
        return self._lines.get(at, 1)

    def add(self, at: KeyPath, finding: Finding) -> None:
        where = f"{self.path}:{self.line(at)}"
        self.findings.append(Finding(finding.code, finding.severity, finding.message, where, finding.remedy))

    def error(self, at: KeyPath, code: str, message: str, remedy: str = "") -> None:
        self.add(at, error(code, message, remedy=remedy))

    def warn(self, at: KeyPath, code: str, message: str, remedy: str = "") -> None:
        self.add(at, warning(code, message, remedy=remedy))

    def keys(self, data: Mapping[Any, Any], known: Collection[str], at: KeyPath = ()) -> None:
        """An error for every key that is none of `known`."""
        for key in data:
            if key not in known:
                self.error((*at, key), "recipe-key", f"unknown key {key!r}{nearest(str(key), list(known))}")

    def mapping(self, value: Any, at: KeyPath, what: str) -> dict[Any, Any]:
        """`value` where it is a mapping; an empty one, with a finding, where it is not."""
        if isinstance(value, dict):
            return value
        self.error(at, "recipe-value", f"{what} must be a mapping, not {value!r}")
        return {}

    def entries(self, value: Any, at: KeyPath, what: str) -> list[Any]:
        """`value` where it is a list with something in it; an empty one, with a finding, where it is not."""
        if isinstance(value, list) and value:
            return value
        self.error(at, "recipe-key", f"{what}")
        return []

    def model(self, value: Any, at: KeyPath) -> ModelRef | None:
        if isinstance(value, dict) and "override_architecture" in value:
            self.warn(
                (*at, "override_architecture"),
                "no-effect",
                "override_architecture has no effect: no list of "
                "architectures is needed, layers are read from the tensors' names",
            )
        try:
            found = self.names[repr(value)] = parse_model(value, self._exists)
            return found
        except UsageError as problem:
            self.error(at, "recipe-model", str(problem))
            return None

    def settings(self, given: Any, at: KeyPath, method: Method | None, *, for_model: bool = False) -> Settings:
        """Checked parameters of one level; those that have no effect there are left out, with a warning."""
        if given is None:
            return {}
        known = {p.name: p for p in method.parameters} if method else {}
        out = {}
        for name, setting in self.mapping(given, at, "parameters").items():
            path = (*at, name)
            if method is None:
                continue
            if name not in known:
                self._unknown(name, path, method, list(known))
            elif for_model and not known[name].per_model:
                fix = "give it under the recipe's own parameters"
                self.warn(path, "no-effect", f"{name} of a single model has no effect", fix)
            else:
                wrong = list(check_setting(setting, known[name], path))
                for place, finding in wrong:
                    self.add(place, finding)
                out[name] = known[name].default if wrong else setting  # so that one fault is found once
        return out

    def _unknown(self, name: Any, path: KeyPath, method: Method, known: list[str]) -> None:
        if any(name == p.name for _, other in METHODS for p in other.parameters):
            self.warn(path, "no-effect", f"{name} has no effect on {method.name}")
        else:
            text = f"{method.name} has no parameter {name!r}" + (nearest(str(name), known) if known else "")
            self.error(path, "unknown-parameter", text)
