"""The documents of a recipe as steps of a graph: what one document names is made once, and kept in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunemerge.checkpoint.dtypes import Array
from tunemerge.findings import refuse_errors
from tunemerge.graph.cost import Cost
from tunemerge.graph.operation import Job, operation
from tunemerge.graph.step import Leaf, Node, Step
from tunemerge.machine import threads
from tunemerge.merge.recipe.documents import parse_data
from tunemerge.merge.recipe.inputs import Found, input_digests, open_places
from tunemerge.merge.recipe.options import Options
from tunemerge.merge.recipe.parts import Document, ModelRef, Place, Recipe
from tunemerge.merge.recipe.prepare import prepared, with_settled
from tunemerge.merge.recipe.provenance import Digests, facts_of
from tunemerge.merge.recipe.write import output_config, write_model
from tunemerge.merge.versions import versions_of
from tunemerge.store.digest import digest_json

_MODEL_KEYS = ("model", "base_model", "tokenizer_source", "source")
_NONE: Mapping[str, Array] = {}
_OPTIONS = ("seed", "allow_crimes", "device")


def intermediate_steps(
    recipe: Recipe, inputs: Mapping[Place, Found], digests: Digests, params: Mapping[str, Any]
) -> dict[str, Step]:
    """A step for each document but the output, by name. `params` hold `_OPTIONS`.

    Its inputs are the document's places in order.
    """
    steps: dict[str, Step] = {}
    for document in recipe.documents[:-1]:
        assert document.name is not None
        nodes: list[Node] = []
        for place in document.places:
            if place in inputs:
                one = inputs[place]
                nodes.append(Leaf(digest_json(dict(digests[place])), one.path.absolute(), "model", str(place)))
            else:
                nodes.append(steps[place.name])
        told = {**{key: params[key] for key in _OPTIONS}, "document": _portable(document)}
        steps[document.name] = Step("recipe", told, {"places": tuple(nodes)}, document.name)
    return steps


def _portable(document: Document) -> dict[str, Any]:
    """The document with `model:0`, `model:1+adapter:1` for its models: it means the same wherever they lie."""
    numbers = {ref: str(_numbered(i, ref.adapter is not None)) for i, ref in enumerate(document.models)}

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: model(v) if key in _MODEL_KEYS else rename(v) for key, v in value.items()}
        return [rename(v) for v in value] if isinstance(value, list) else value

    def model(value: Any) -> Any:
        if value in ("union", "base", None) or (isinstance(value, dict) and "kind" in value):
            return rename(value)
        return numbers[document.names[repr(value)]]

    data = {key: v for key, v in rename(document.data).items() if key != "name"}
    if document.groups is not None:
        data["align"] = {**data["align"], "groups": "groups"}
    if document.tokenizer.chat_template is not None:
        data["chat_template"] = document.tokenizer.chat_template
    return data


def _numbered(i: int, adapted: bool) -> ModelRef:
    return ModelRef(f"model:{i}", adapter=f"adapter:{i}" if adapted else None)


def uses(params: Mapping[str, Any]) -> dict[str, str | int]:
    """For the key: the versions of the methods; linear copies and averages what the document's own leaves out."""
    return versions_of({params["document"]["merge_method"], "linear"}, params["device"])


@operation("recipe", version=2, uses=uses)
def run_document(job: Job) -> Cost:
    """Merge one document. Costs nothing but seconds and memory: a merge sees no examples."""
    document = parse_data(job.params["document"])
    options = Options(seed=job.params["seed"], allow_crimes=job.params["allow_crimes"], device=job.params["device"])
    merge_places(document, dict(zip(document.places, job.inputs["places"], strict=True)), options, job)
    return Cost()


def merge_places(
    document: Document, places: Mapping[Place, Path], options: Options, job: Job, settled: Mapping[str, Array] = _NONE
) -> None:
    """Merge a document whose models lie in `places` into the job's folder. FindingsError where it can't be.

    `settled` tensors are written as they are given.
    """
    inputs, findings = open_places(places)
    refuse_errors(findings)
    with prepared(document, inputs, seed=options.seed, waive=options.allow_crimes) as ready:
        refuse_errors([*ready.findings, *output_config(ready)[1]])
        text = json.dumps(document.data, indent=1, ensure_ascii=False)
        facts = facts_of(text, options, ready.plan, inputs, input_digests(inputs, threads()), None)
        write_model(with_settled(ready, settled), job.out, options, facts, job.progress)
