"""A recipe file: its documents, in an order in which they can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunemerge.findings import Finding, FindingsError, error, refuse_errors
from tunemerge.merge.recipe.checker import Checker
from tunemerge.merge.recipe.names import Exists, looking_from
from tunemerge.merge.recipe.parts import Document, ModelRef, Place, Recipe
from tunemerge.merge.recipe.read import read_document
from tunemerge.registry import nearest
from tunemerge.yamlfile import parse_documents, read_text

MAX_DOCUMENTS = 100


@dataclass(frozen=True)
class Reading:
    """A recipe file as far as it could be understood: `recipe` is None where it does not say what to merge with what.

    `places` are all models and adapters that it names.
    """

    recipe: Recipe | None
    places: tuple[Place, ...]
    findings: tuple[Finding, ...]


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe. FindingsError with everything that is wrong, each with its line."""
    path = Path(path)
    return parse_recipe(read_text(path), path)


def parse_recipe(text: str, path: Path, exists: Exists | None = None) -> Recipe:
    """As load_recipe for text that is already there; `path` is what findings call it, and where paths count from."""
    reading = read_recipe(text, path, exists)
    refuse_errors(reading.findings)
    assert reading.recipe is not None
    return reading.recipe


def read_recipe(text: str, path: Path, exists: Exists | None = None) -> Reading:
    """As parse_recipe, with what is wrong as findings; FindingsError only where the text is no YAML."""
    parsed = [(data, lines) for data, lines in parse_documents(text, str(path)) if data is not None]
    if not parsed:
        raise FindingsError([error("recipe-empty", "a recipe is a mapping with merge_method and models", str(path))])
    if len(parsed) > MAX_DOCUMENTS:
        raise FindingsError([error("recipe-size", f"more than {MAX_DOCUMENTS} documents", str(path))])
    exists = exists or looking_from(path.parent)
    named = {str(data["name"]) for data, _ in parsed if isinstance(data, dict) and data.get("name") is not None}
    findings: list[Finding] = []
    documents: list[tuple[Document, Checker]] = []
    refs: list[ModelRef] = []
    for data, lines in parsed:
        check = Checker(path, lines, _or_named(exists, named), findings)
        if not isinstance(data, dict):
            check.error((), "recipe-empty", "a recipe is a mapping with merge_method and models")
        elif (document := read_document(data, check)) is not None:
            documents.append((document, check))
        refs += check.names.values()
    every = (place for ref in refs for place in ref.places)
    places = dict.fromkeys(place for place in every if place.kind != "model" or place.name not in named)
    sound = len(documents) == len(parsed) and all(document.merged for document, _ in documents)
    before = len(findings)
    _names(documents, exists)
    ordered = _order(documents)
    sound = sound and not any(f.severity == "error" for f in findings[before:])
    recipe = Recipe(path, text, tuple(ordered), tuple(findings)) if sound else None
    return Reading(recipe, tuple(places), tuple(findings))


def parse_data(data: Mapping[str, Any]) -> Document:
    """One document that has been read before; FindingsError where it is none."""
    check = Checker(Path("recipe"), {}, lambda name: False)
    document = read_document(data, check)
    refuse_errors(check.findings)
    assert document is not None
    return document


def _or_named(exists: Exists, named: set[str]) -> Exists:
    return lambda name: name in named or exists(name)


def _names(documents: Sequence[tuple[Document, Checker]], exists: Exists) -> None:
    """Names given twice, and models that look like a misspelt name of a document."""
    names: dict[str, int] = {}
    for document, check in documents:
        if document.name in names:
            check.error(
                ("name",), "recipe-name", f"{document.name!r} is also the document of line {names[document.name]}"
            )
        elif document.name is not None:
            names[document.name] = document.line
    for document, check in documents:
        for model in document.models:
            unknown = "/" not in model.path and model.path not in names and not exists(model.path)
            if unknown and names and "did you mean" in nearest(model.path, list(names)):
                text = f"no document, folder or file is called {model.path!r}{nearest(model.path, list(names))}"
                check.error((), "recipe-name", text)


def _order(documents: Sequence[tuple[Document, Checker]]) -> list[Document]:
    """Every document after those it names, the output last. Findings for cycles and for more than one output."""
    by_name = {d.name: (d, check) for d, check in documents if d.name is not None}
    needs = {id(d): [by_name[m.path][0] for m in d.models if m.path in by_name] for d, _ in documents}
    used = {id(other) for others in needs.values() for other in others}
    outputs = [(d, check) for d, check in documents if d.name is None] or [
        (d, check) for d, check in documents if id(d) not in used
    ]
    if len(outputs) > 1:
        _, check = outputs[1]
        check.error(
            (),
            "recipe-output",
            "which document is the output? Of several, it is the one without a name, or the one that no other uses",
            "name all others, or use them",
        )
    ordered: list[Document] = []
    state: dict[int, str] = {}
    for document, check in outputs[:1] or documents:
        _visit(document, needs, state, ordered, check)
    for document, check in documents:
        if id(document) not in state:
            check.warn((), "recipe-unused", f"{document.name!r} is not run: no other document uses it")
    return ordered


def _visit(
    document: Document,
    needs: Mapping[int, list[Document]],
    state: dict[int, str],
    ordered: list[Document],
    check: Checker,
) -> None:
    if state.get(id(document)) == "open":
        check.error(
            (), "recipe-cycle", f"{document.name!r} is made from itself: its documents name each other in a circle"
        )
        return
    if id(document) in state:
        return
    state[id(document)] = "open"
    for other in needs[id(document)]:
        _visit(other, needs, state, ordered, check)
    state[id(document)] = "done"
    ordered.append(document)
