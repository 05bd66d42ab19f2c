"""The checks of a recipe, one a key. All findings are collected; each says the line it is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.dtypes import TORCH_NAMES
from tunemerge.findings import Finding, FindingsError, error, warning
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.recipe.values import check_setting
from tunemerge.registry import nearest
from tunemerge.yamlfile import KeyPath, Lines

KEYS = (
    "merge_method",
    "models",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "average",
)
_NOT_YET = {
    "slices": "layers can't be picked or stacked yet; list whole models under `models`",
    "modules": "modules can't be merged one by one yet; list whole models under `models`",
    "chat_template": "the tokenizer's own chat template is copied; remove this key",
    "name": "recipes of several documents can't be run yet; run one recipe after the other",
}
_METHODS_NOT_YET = {
    *("arcee_fusion", "breadcrumbs", "breadcrumbs_ties", "core_space", "dare_linear", "della", "della_linear"),
    *("karcher", "model_stock", "multislerp", "nearswap", "nuslerp", "passthrough", "ram", "ramplus_tl", "sce"),
}
_OTHER_PARAMETERS = {"gamma", "epsilon", "select_topk", "filter_wise", "max_iter", "tol", "eps", "scale"}
"""Parameters of methods that mergekit has and we don't have yet: known names, without effect here."""


class Checker:
    """Collects findings about one recipe."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self._path, self._lines = path, lines
        self._findings: list[Finding] = []

    def add(self, path: KeyPath, finding: Finding) -> None:
        """Note a finding about the key at `path`, or about the nearest key above it that is written."""
        while path and path not in self._lines:
            path = path[:-1]
        where = f"{self._path}:{self._lines.get(path, 1)}"
        self._findings.append(Finding(finding.code, finding.severity, finding.message, where, finding.remedy))

    def done(self) -> tuple[Finding, ...]:
        """The warnings; FindingsError where there are errors."""
        if any(f.severity == "error" for f in self._findings):
            raise FindingsError(self._findings)
        return tuple(self._findings)

    def top_level(self, data: Mapping[Any, Any]) -> None:
        for key in data:
            if key in _NOT_YET:
                self.add((key,), error("recipe-not-yet", f"{key!r} is not supported yet", remedy=_NOT_YET[key]))
            elif key not in KEYS:
                self.add((key,), error("recipe-key", f"unknown key {key!r}{nearest(str(key), list(KEYS))}"))

    def method(self, data: Mapping[str, Any]) -> Method | None:
        name = data.get("merge_method")
        if isinstance(name, str) and name in METHODS:
            return METHODS[name]
        if name is None:
            self.add((), error("recipe-key", f"merge_method is missing; one of {', '.join(METHODS.names())}"))
        elif name in _METHODS_NOT_YET:
            text = f"merge method {name!r} is not supported yet; known: {', '.join(METHODS.names())}"
            self.add(("merge_method",), error("recipe-not-yet", text))
        else:
            text = f"unknown merge method {name!r}{nearest(str(name), METHODS.names())}"
            self.add(("merge_method",), error("unknown-name", text))
        return None

    def models(self, data: Mapping[str, Any]) -> list[tuple[str, Any, KeyPath]]:
        """(name, parameters as written, their key path) of each model."""
        listed = data.get("models")
        if not isinstance(listed, list) or not listed:
            if "slices" not in data and "modules" not in data:
                self.add(("models",), error("recipe-key", "models must be a list of `- model: NAME`"))
            return []
        out: list[tuple[str, Any, KeyPath]] = []
        for i, entry in enumerate(listed):
            at: KeyPath = ("models", i)
            if not isinstance(entry, dict) or "model" not in entry:
                self.add(at, error("recipe-key", "a model is written `- model: NAME`, with parameters below it"))
                continue
            for key in entry.keys() - {"model", "parameters"}:
                text = f"unknown key {key!r}{nearest(str(key), ['model', 'parameters'])}"
                self.add((*at, key), error("recipe-key", text))
            name = self.model_name(entry["model"], (*at, "model"))
            if name is None:
                continue
            if any(name == other for other, _, _ in out):
                self.add((*at, "model"), error("recipe-model", f"{name!r} is listed twice"))
                continue
            out.append((name, entry.get("parameters"), (*at, "parameters")))
        return out

    def model_name(self, value: Any, at: KeyPath) -> str | None:
        """A folder or a Hub id; None, with a finding, for anything else."""
        if not isinstance(value, str) or not value.strip():
            self.add(at, error("recipe-model", f"a model must be a folder or a Hub id, not {value!r}"))
            return None
        if not Path(value).expanduser().exists():
            if "+" in value:
                fix = "merge the adapter into its model first (PEFT: merge_and_unload)"
                self.add(at, error("recipe-not-yet", f"adapters ({value!r}) are not supported yet", remedy=fix))
                return None
            if "@" in value:
                fix = "download that revision and name its folder"
                self.add(at, error("recipe-not-yet", f"revisions ({value!r}) are not supported yet", remedy=fix))
                return None
        return value

    def settings(self, given: Any, at: KeyPath, method: Method | None, *, for_model: bool) -> dict[str, Any]:
        """Checked parameters of one level; those that have no effect there are left out, with a warning."""
        if given is None:
            return {}
        if not isinstance(given, dict):
            self.add(at, error("recipe-value", "parameters must be a mapping of names to values"))
            return {}
        if method is None:
            return {}
        known = {p.name: p for p in method.parameters}
        elsewhere = {p.name for _, m in METHODS for p in m.parameters} | _OTHER_PARAMETERS
        out = {}
        for name, setting in given.items():
            path = (*at, name)
            if name not in known and name not in elsewhere:
                text = f"{method.name} has no parameter {name!r}{nearest(str(name), list(known))}"
                self.add(path, error("unknown-parameter", text))
            elif name not in known:
                self.add(path, warning("no-effect", f"{name} has no effect on {method.name}"))
            elif for_model and not known[name].per_model:
                text = f"{name} of a single model has no effect"
                self.add(path, warning("no-effect", text, remedy="give it under the recipe's own parameters"))
            else:
                for place, finding in check_setting(setting, known[name], path):
                    self.add(place, finding)
                out[name] = setting
        return out

    def required(self, method: Method, settings: Mapping[str, Mapping[str, Any]], common: Mapping[str, Any]) -> None:
        for parameter in method.parameters:
            if not parameter.required or parameter.name in common:
                continue
            if not parameter.per_model:
                self.add(
                    ("parameters",), error("recipe-missing", f"{method.name} needs the parameter {parameter.name}")
                )
                continue
            for name, given in settings.items():
                if parameter.name not in given:
                    text = f"{method.name} needs the parameter {parameter.name} of {name}"
                    self.add(("models",), error("recipe-missing", text))

    def dtype(self, data: Mapping[str, Any]) -> str | None:
        """What the output is written in: out_dtype, else dtype."""
        for key in ("dtype", "out_dtype"):
            value = data.get(key)
            if value is not None and value not in TORCH_NAMES:
                text = f"{key} must be one of {', '.join(TORCH_NAMES)}, not {value!r}"
                self.add((key,), error("recipe-value", text))
                return None
        return data.get("out_dtype") or data.get("dtype")

    def tokenizer(self, data: Mapping[str, Any], base: str | None, models: list[str]) -> str | None:
        """The model whose tokenizer files are copied, or None for the usual one."""
        source, at = data.get("tokenizer_source"), ("tokenizer_source",)
        section = data.get("tokenizer")
        if section is not None:
            at = ("tokenizer",)
            if source is not None:
                self.add(at, error("recipe-key", "give tokenizer or tokenizer_source, not both"))
            if not isinstance(section, dict) or section.keys() != {"source"}:
                text = "of `tokenizer` only `source` is supported yet"
                self.add(at, error("recipe-not-yet", text, remedy="remove its other keys"))
                return None
            source = section["source"]
        if source is None:
            return None
        if source == "union":
            fix = "use models with the same tokenizer, and tokenizer_source: base"
            self.add(at, error("recipe-not-yet", "a union of tokenizers is not supported yet", remedy=fix))
            return None
        if source == "base":
            return base or (models[0] if models else None)
        return self.model_name(source, at)

    def average(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        """Parts of names of tensors that are averaged."""
        value = data.get("average", [])
        if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
            self.add(("average",), error("recipe-value", "average must be a list of parts of tensor names"))
            return ()
        return tuple(value)
