"""Model names in a recipe: a folder, a file, a Hub id; with `@revision` and `+adapter`, or mergekit's mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunemerge.errors import UsageError
from tunemerge.merge.recipe.parts import ModelRef
from tunemerge.registry import nearest

Exists = Callable[[str], bool]
"""Whether a path is there, seen from where the recipe looks: such a name is taken as it is, `+` and `@` included."""

_KEYS = ("model", "lora", "override_architecture")


def looking_from(folder: Path) -> Exists:
    """Paths count from the current folder first, then from the recipe's."""
    return lambda name: Path(name).expanduser().exists() or (folder / name).exists()


def parse_model(value: Any, exists: Exists) -> ModelRef:
    """UsageError, without a place, where `value` names no model."""
    if isinstance(value, Mapping):
        return _from_mapping(value, exists)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"a model must be a folder or a Hub id, not {value!r}")
    if exists(value):
        return ModelRef(value)
    whole, *adapters = value.split("+")
    if len(adapters) > 1:
        raise UsageError(f"{value!r} names {len(adapters)} adapters; a model takes one: merge them one after the other")
    path, revision = _revision(whole, exists)
    if not adapters:
        return ModelRef(path, revision)
    return ModelRef(path, revision, *_revision(adapters[0], exists))


def _revision(text: str, exists: Exists) -> tuple[str, str | None]:
    text = text.strip()
    if exists(text) or "@" not in text:
        if not text:
            raise UsageError("a model and its adapter are written `model+adapter`; one of them is missing")
        return text, None
    path, *revisions = text.split("@")
    if len(revisions) > 1 or not path or not revisions[0]:
        raise UsageError(f"{text!r}: a revision is written `model@revision`")
    return path, revisions[0]


def _from_mapping(value: Mapping[Any, Any], exists: Exists) -> ModelRef:
    """`{model: {path, revision}, lora: {path, revision}}`, as mergekit writes a name that has no short form."""
    for key in value:
        if key not in _KEYS:
            raise UsageError(f"unknown key {key!r} of a model{nearest(str(key), list(_KEYS))}")
    if "model" not in value:
        raise UsageError("a model given as a mapping needs the key 'model'")
    model = _path(value["model"], exists)
    lora = value.get("lora")
    return ModelRef(*model) if lora is None else ModelRef(*model, *_path(lora, exists))


def _path(value: Any, exists: Exists) -> tuple[str, str | None]:
    if isinstance(value, str):
        return _revision(value, exists)
    if isinstance(value, Mapping) and isinstance(value.get("path"), str) and value.keys() <= {"path", "revision"}:
        revision = value.get("revision")
        if revision is None or isinstance(revision, str):
            return value["path"], revision
    raise UsageError(f"a path and its revision are written {{path: ..., revision: ...}}, not {value!r}")
