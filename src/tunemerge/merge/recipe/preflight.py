"""Everything that speaks against a recipe, all at once, before any download or byte of work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.match import tensor_differences
from tunemerge.checkpoint.model import Checkpoint
from tunemerge.checkpoint.source import FileModel
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError, error, note, warning
from tunemerge.merge.plan import MergePlan
from tunemerge.merge.recipe.documents import Reading
from tunemerge.merge.recipe.inputs import Found, find_places, join, open_places
from tunemerge.merge.recipe.needs import disk_findings, memory_findings
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.parts import Document, Place
from tunemerge.merge.recipe.prepare import Prepared, companion_findings, prepared
from tunemerge.merge.recipe.provenance import Recorded
from tunemerge.merge.recipe.views import make_views
from tunemerge.merge.recipe.write import output_config
from tunemerge.merge.runner import output_bytes
from tunemerge.merge.target import refuse_target
from tunemerge.store import STORE

_HUB = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?\Z")
_GIVEN = ("recipe-value", "parameter-value")
"""What a plan says of values; where the recipe has faults itself, they follow from those."""


@dataclass(frozen=True)
class Planned:
    """A document that could be planned; `names` are the plan's models as the recipe writes them."""

    document: Document
    plan: MergePlan
    names: tuple[str, ...]


@dataclass(frozen=True)
class Preflight:
    """`planned` are the documents that could be planned, in order; all of them where nothing is wrong."""

    findings: tuple[Finding, ...]
    planned: tuple[Planned, ...]


def preflight(
    reading: Reading, path: Path, out: Path | None, options: Options, recorded: Recorded | None = None
) -> Preflight:
    """Look at everything that is on this disk. Nothing is downloaded, nothing is written."""
    findings = list(reading.findings)
    inputs, absent = _here(reading, path, recorded, findings)
    if out is not None:
        try:
            refuse_target(out, [one.path for one in inputs.values()])
        except UsageError as problem:
            findings.append(error("output-folder", str(problem)))
    planned: list[Planned] = []
    faulty = any(f.severity == "error" for f in reading.findings)
    for document in reading.recipe.documents if reading.recipe else ():
        lacking = [place for place in document.places if place in absent]
        if lacking or _unknowable(document, inputs):
            what = f"{lacking[0]} is there" if lacking else "what it reads is made"
            name = repr(document.name) if document.name else "the output"
            findings.append(note("not-checked", f"{name} is planned and checked when {what}", str(path)))
            findings += _partly(document, inputs)
            absent.add(Place(document.name or ""))
            continue
        try:
            with prepared(document, inputs, seed=options.seed, waive=options.allow_crimes, look=True) as ready:
                findings += [f for f in ready.findings if not (faulty and f.code in _GIVEN)]
                findings += output_config(ready)[1]
                planned.append(Planned(document, ready.plan, tuple(map(str, ready.refs))))
                if document.name is not None:
                    inputs[Place(document.name)] = _virtual(ready)
        except FindingsError as problem:
            findings += problem.findings
            absent.add(Place(document.name or ""))
    findings += _needs(planned, out or Path("merged"), options)
    return Preflight(tuple(dict.fromkeys(findings)), tuple(planned))


def _here(
    reading: Reading, path: Path, recorded: Recorded | None, findings: list[Finding]
) -> tuple[dict[Place, Found], set[Place]]:
    """What is on this disk, opened; and the places that are not, or can't be opened."""
    old = recorded or Recorded(Path(), 0, False, {})
    found, nowhere = find_places(reading.places, path.parent, download=False, known=old.find)
    inputs, faults = open_places(found)
    missing = [place for place in reading.places if place not in inputs]
    for place in (place for place in missing if place not in found and _HUB.match(place.name)):
        text = "is not on this disk; taken for a Hub id, it is downloaded and checked when it is merged"
        findings.append(warning("not-here", text, str(place)))
    named = [place for place in missing if place not in found and not _HUB.match(place.name)]
    findings += [*faults, *(f for f in nowhere if any(f.message.startswith(place.name) for place in named))]
    return inputs, set(missing)


def _partly(document: Document, inputs: Mapping[Place, Found]) -> list[Finding]:
    """What can be said of those models that are there."""
    there = [ref for ref in document.merged if all(place in inputs for place in ref.places)]
    opened = join(there, inputs)
    unsliced = all(s.layers is None for m in document.modules for part in m.slices for s in part.everyone)
    findings = companion_findings(document, opened)
    if len(opened) > 1 and unsliced and document.tokenizer.source is None and not document.average:
        whole = [one.checkpoint for one in opened.values()]
        seen = [(FileModel(one, {}), one.tensors, one.config) for one in whole]
        tensors = {
            view.label: {name: view.tensors[own] for name, own in view.every.items()} for view in make_views(seen, 0)
        }
        findings += tensor_differences(tensors)
    return findings


def _unknowable(document: Document, inputs: Mapping[Place, Found]) -> bool:
    """Whether it reads an intermediate of which headers don't tell enough: its tokenizer is made too, or an adapter's
    fit is measured on its values."""
    for ref in document.models:
        whole = inputs[ref.places[0]].content
        made = isinstance(whole, Checkpoint) and not whole.files
        if made and (ref.adapter is not None or document.tokenizer.source is not None):
            return True
    return False


def _virtual(ready: Prepared) -> Found:
    """What a document is going to make, as far as headers tell."""
    giver = ready.opened[ready.giver].checkpoint
    located = {t.name: (TensorInfo(t.out_dtype, t.shape, 0, 0), "") for t in ready.plan.tensors}
    made = Checkpoint(giver.folder, output_config(ready)[0], giver.has_config, (), located)
    return Found(Place(str(ready.document.name)), Path(str(ready.document.name)), made)


def _needs(planned: list[Planned], out: Path, options: Options) -> list[Finding]:
    if not planned:
        return []
    *intermediate, last = planned
    kept = [(Path(STORE), output_bytes(one.plan)) for one in intermediate]
    findings = disk_findings([(out, output_bytes(last.plan)), *kept])
    for one in planned:
        findings += memory_findings(one.plan, options)
    return findings
