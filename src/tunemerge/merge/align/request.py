"""The recipe's key `align`: `weight_matching`, or a mapping with the method and a file of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.source import Model
from tunemerge.findings import Finding, error
from tunemerge.merge.align.align import Alignment, align_models
from tunemerge.merge.align.groups_file import load_groups
from tunemerge.registry import nearest

METHODS = ("weight_matching",)
_KEYS = ("method", "groups")


@dataclass(frozen=True)
class AlignRequest:
    """What a recipe asks for. `groups`: the file of permutation groups, or None where they are to be derived."""

    method: str
    groups: Path | None = None

    @classmethod
    def parse(cls, value: Any, folder: Path = Path()) -> AlignRequest | tuple[Finding, ...]:
        """The request, or everything that is wrong with it. Relative files are looked for in `folder`."""
        given = {"method": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            text = f"align must be {METHODS[0]!r} or a mapping with method and groups, not {value!r}"
            return (error("recipe-value", text, "align"),)
        findings = [
            error("recipe-key", f"unknown key {key!r}{nearest(str(key), list(_KEYS))}", "align")
            for key in given
            if key not in _KEYS
        ]
        method, file = given.get("method"), given.get("groups")
        if method is None:
            findings.append(error("recipe-key", f"method is missing; known: {', '.join(METHODS)}", "align"))
        elif method not in METHODS:
            text = f"unknown method {method!r}{nearest(str(method), list(METHODS))}"
            findings.append(error("unknown-name", text, "align"))
        if file is not None and not isinstance(file, str):
            findings.append(error("recipe-value", f"groups must be the name of a YAML file, not {file!r}", "align"))
        elif file is not None and not (folder / Path(file).expanduser()).is_file():
            findings.append(error("file-unreadable", f"no such file: {folder / Path(file).expanduser()}", "align"))
        if findings:
            return tuple(findings)
        return cls(str(method), folder / Path(file).expanduser() if file is not None else None)

    def run(
        self, models: Sequence[Model], reference: int = 0, *, config: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Alignment:
        """Align all models to models[reference]; see `align_models`, and `load_groups` for what it raises."""
        groups = load_groups(self.groups, models[reference].tensors) if self.groups else None
        return align_models(models, reference, groups, config=config, seed=seed)
