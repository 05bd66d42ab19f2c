"""The model card of a merge: what was merged, how, under which licences, and how to repeat it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.model import Checkpoint, inside
from tunemerge.errors import TunemergeError
from tunemerge.merge.recipe.inputs import Found
from tunemerge.merge.recipe.parts import Place, Recipe
from tunemerge.yamlfile import parse_yaml

CARD = "README.md"
_HEAD = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_MAX_BYTES = 1_000_000


def model_card(name: str, recipe: Recipe, facts: Mapping[str, Any], inputs: Mapping[Place, Found]) -> str:
    """The text of README.md for the model `name`, made by `recipe` from `inputs`; `facts` are its provenance."""
    licences = {place: licence_of(one.path) for place, one in inputs.items()}
    lines = [*_front(inputs, licences), f"# {name}", "", _sentence(facts["methods"]), ""]
    lines += ["| input | licence | SHA-256 |", "|---|---|---|"]
    for place, entry in zip(inputs, facts["inputs"], strict=True):
        files = entry["files"]
        weights = [d for file, d in files.items() if file.endswith(".safetensors")] or list(files.values())
        shown = f"`{weights[0][:16]}`" + (f" and {len(weights) - 1} more files" if len(weights) > 1 else "")
        lines.append(f"| {_cell(str(place))} | {_cell(licences[place] or 'not stated')} | {shown} |")
    if len(set(licences.values())) > 1:
        lines += ["", "The licences of the inputs differ: see which of them this model has to follow."]
    fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", recipe.text))])
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    lines += ["", "## Recipe", "", f"{fence}yaml", recipe.text.rstrip(), fence, ""]
    lines += [f"Seed {facts['seed']}; {versions}.", ""]
    lines += [
        "The weight files carry this recipe and the digests of the inputs. To make the model again from them:",
        "",
    ]
    lines += ["```console", f"$ tunemerge merge {name} OUT", "```", ""]
    return "\n".join(lines)


def licence_of(folder: Path) -> str | None:
    """The licence that a model's card states, or None."""
    head = _front_matter(folder)
    value = head.get("license")
    if isinstance(value, list):
        value = ", ".join(str(v) for v in value)
    named = head.get("license_name")
    if value == "other" and isinstance(named, str):
        value = named
    return value if isinstance(value, str) and value.strip() else None


def _front_matter(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return {}
        found = _HEAD.match(inside(folder, CARD).read_text("utf-8", "replace"))
        value = parse_yaml(found.group(1), str(path))[0] if found else {}
    except (OSError, TunemergeError):
        return {}  # a card that can't be read states nothing
    return value if isinstance(value, dict) else {}


def _front(inputs: Mapping[Place, Found], licences: Mapping[Place, str | None]) -> list[str]:
    hub = [place.name for place, one in inputs.items() if one.path.parent.name == "snapshots"]
    stated = set(licences.values())
    lines = ["---"]
    if hub:
        lines += ["base_model:", *(f"- {json.dumps(name)}" for name in hub), "base_model_relation: merge"]
    if len(stated) == 1 and None not in stated:
        lines.append(f"license: {json.dumps(stated.pop())}")
    if any(isinstance(one.content, Checkpoint) and one.content.has_config for one in inputs.values()):
        lines.append("library_name: transformers")
    return [*lines, "tags:", "- merge", "- tunemerge", "---", ""]


def _sentence(methods: Mapping[str, Any]) -> str:
    parts = [f"{entry['tensors']:,} tensors {'copied' if m == 'copy' else f'by `{m}`'}" for m, entry in methods.items()]
    return f"Merged with tunemerge: {', '.join(parts)}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
