"""Where a merged model comes from: written into its files, so that the merge can be repeated from them alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.header import read_header
from tunemerge.checkpoint.model import inside, open_checkpoint, read_json
from tunemerge.errors import CheckpointError, UsageError
from tunemerge.findings import FindingsError, error
from tunemerge.merge.folder import RECORD
from tunemerge.merge.method import METHODS
from tunemerge.merge.plan import MergePlan
from tunemerge.merge.recipe.documents import Reading, read_recipe
from tunemerge.merge.recipe.inputs import Found
from tunemerge.merge.recipe.names import Exists, looking_from
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.parts import Place
from tunemerge.merge.versions import versions_of

KEY = "tunemerge"
"""The key of a safetensors file's metadata."""

FORMAT = 1
Digests = Mapping[Place, Mapping[str, str]]
"""SHA-256 by file name, of everything that a recipe reads."""


@dataclass(frozen=True)
class Recorded:
    """What a merged model says of itself. `inputs`: for each place its path seen from `folder`, its commit on the
    Hub, and the SHA-256 of its files by name."""

    folder: Path
    seed: int
    allow_crimes: bool
    inputs: Mapping[Place, Mapping[str, Any]]

    def find(self, place: Place) -> Path | None:
        """Where it was, if something is still there."""
        path = self.inputs.get(place, {}).get("path")
        return self.folder / path if isinstance(path, str) and (self.folder / path).exists() else None

    def commit(self, place: Place) -> Place:
        """The place at the commit that was merged, where it came from the Hub."""
        return replace(place, revision=self.inputs.get(place, {}).get("commit") or place.revision)

    def refuse_changes(self, digests: Digests) -> None:
        """FindingsError naming every file of an input that is not what was merged, and every one that was not there."""
        findings = []
        for place, files in digests.items():
            before = self.inputs.get(place, {}).get("files", {})
            for name in sorted({*before, *files}):
                if files.get(name) == before.get(name):
                    continue
                now = f"is {files[name][:16]}... now" if name in files else "is missing"
                then = f"was {before[name][:16]}..." if name in before else "was not there"
                text = f"{name} {now}, and {then} when the model was merged"
                fix = "find the files that were merged; to merge the new ones, run the recipe itself"
                findings.append(error("input-changed", text, str(place), fix))
        if findings:
            raise FindingsError(findings)


def is_merged(path: Path) -> bool:
    """Whether `path` is a model, not a recipe: a folder or a safetensors file."""
    return path.is_dir() or path.suffix == ".safetensors"


def read_merged(path: Path) -> tuple[Reading, Recorded]:
    """The recipe that made a model, from the model's own files. UsageError where they don't say."""
    folder = path if path.is_dir() else path.parent
    facts = _facts(path)
    try:
        if facts["format"] != FORMAT:
            raise UsageError(f"{path}: its recipe is in format {facts['format']}, and this version reads {FORMAT}")
        inputs = {_place(entry): entry for entry in facts["inputs"]}
        recorded = Recorded(folder, int(facts["seed"]), bool(facts["allow_crimes"]), inputs)
        text = facts["recipe"]
        if not isinstance(text, str) or not all(isinstance(e["files"], dict) for e in inputs.values()):
            raise TypeError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{path}: what it says about its recipe is damaged") from None
    if any("path" not in entry for entry in inputs.values()):
        raise UsageError(f"{path}: was merged as one step of several, from others' results; run the whole again")
    return read_recipe(text, path, _known(inputs, folder)), recorded


def _known(inputs: Mapping[Place, Any], folder: Path) -> Exists:
    names = {place.name for place in inputs}
    there = looking_from(folder)
    return lambda name: name in names or there(name)


def _facts(path: Path) -> dict[str, Any]:
    if path.is_dir() and (path / RECORD).is_file():
        facts = read_json(inside(path, RECORD))
    else:
        file = path
        if path.is_dir():
            checkpoint = open_checkpoint(path)
            file = checkpoint.folder / checkpoint.files[0]
        try:
            facts = json.loads(read_header(file).metadata.get(KEY, "{}"))
        except (ValueError, RecursionError):
            raise CheckpointError(f"{file}: its metadata {KEY!r} is not JSON") from None
    if not isinstance(facts, dict) or "recipe" not in facts:
        raise UsageError(f"{path}: carries no recipe, so it was not made by `tunemerge merge` from one")
    return facts


def facts_of(
    recipe: str, options: Options, plan: MergePlan, inputs: Mapping[Place, Found], digests: Digests, out: Path | None
) -> dict[str, Any]:
    """What `read_merged` reads: the recipe's text, the seed, every input with digests and place, versions; and where
    torch computed, if it did.

    `out` is None for a merge inside a graph, whose inputs are other steps: these have no place of their own.
    """
    used = versions_of({tensor.method.name for tensor in plan.tensors if not tensor.copy}, options.device)
    packages = {name: version(name) for name in ("tunemerge", "numpy", "numba")}
    return {
        "format": FORMAT,
        "recipe": recipe,
        "seed": options.seed,
        "allow_crimes": options.allow_crimes,
        "inputs": [_entry(one, digests[place], out) for place, one in inputs.items()],
        "versions": packages | {name: used[name] for name in ("torch",) if name in used},
        **{name: used[name] for name in ("device",) if name in used},
    }


def methods_of(plan: MergePlan) -> dict[str, Any]:
    """What was done to how many tensors, by method and its version, and the digest of a plug-in's code; the parameters
    where all tensors of a method have the same."""
    out: dict[str, Any] = {}
    for tensor in plan.tensors:
        if tensor.copy:
            entry = out.setdefault("copy", {"tensors": 0})
        else:
            name = tensor.method.name
            first = {"tensors": 0, "version": tensor.method.version, "parameters": tensor.values}
            plugin = METHODS.plugin(name) if name in METHODS else None
            entry = out.setdefault(name, {**first, **({"code": plugin.digest} if plugin is not None else {})})
            if entry["parameters"] != tensor.values:
                entry["parameters"] = None
        entry["tensors"] += 1
    return out


def _entry(one: Found, files: Mapping[str, str], out: Path | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": one.place.name, "files": dict(files)}
    if out is None:
        return entry
    entry["path"] = _seen_from(out, one.path)
    if one.path.parent.name == "snapshots":
        entry["commit"] = one.path.name
    if one.place.revision is not None:
        entry["revision"] = one.place.revision
    if one.place.kind != "model":
        entry["kind"] = one.place.kind
    return entry


def _place(entry: Mapping[str, Any]) -> Place:
    return Place(entry["name"], entry.get("revision"), entry.get("kind", "model"))


def _seen_from(out: Path, path: Path) -> str:
    """Relative, so that it says nothing about whose computer this is, and holds when both are moved together."""
    return Path(os.path.relpath(path.absolute(), out.absolute())).as_posix()
