"""One document with its models at hand: the plan, and everything that speaks against it. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tunemerge.checkpoint.architecture import architecture_findings
from tunemerge.checkpoint.source import Model
from tunemerge.checkpoint.tokenizers import tokenizer_findings
from tunemerge.findings import Finding, FindingsError, error, warning
from tunemerge.merge.plan import MergePlan
from tunemerge.merge.recipe.assemble import Assembly, assemble
from tunemerge.merge.recipe.inputs import Opened, reading
from tunemerge.merge.recipe.lineage import lineage_findings
from tunemerge.merge.recipe.parts import Document, ModelRef
from tunemerge.merge.recipe.views import View, make_views
from tunemerge.merge.vocabulary.plan import plan_vocabulary
from tunemerge.merge.vocabulary.vocabulary import Vocabulary

WAIVED = {
    "tensor-names": "each tensor is merged among the models that have it",
    "architecture": "configs of different kinds",
    "architecture-size": "configs of different sizes",
    "tokenizers-differ": "rows of embeddings that mean different tokens are merged with each other",
    "lineage": "weights that have nothing in common are merged",
}
"""What --allow-crimes lets pass, and what that means."""

_PRECISION = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8}


@dataclass(frozen=True)
class Prepared:
    """`models` are those of the plan, in its order, open for reading; `refs` are their names.

    `giver` gives the config. `vocabulary` is None where the recipe asks for no tokenizer.
    """

    document: Document
    plan: MergePlan
    assembly: Assembly
    refs: tuple[ModelRef, ...]
    models: tuple[Model, ...]
    opened: Mapping[ModelRef, Opened]
    giver: ModelRef
    vocabulary: Vocabulary | None
    findings: tuple[Finding, ...]


@contextmanager
def prepared(document: Document, opened: Mapping[ModelRef, Opened], *, seed: int, waive: bool) -> Iterator[Prepared]:
    """Plan a document whose models are all in `opened`. Findings are not raised."""
    refs = tuple(dict.fromkeys([*document.merged, document.donor]))
    findings: list[Finding] = []
    with reading({ref: opened[ref] for ref in refs}) as readable:
        models = [readable[ref] for ref in refs]
        vocabulary = _vocabulary(document, refs, opened, findings)
        if vocabulary is not None:
            models = vocabulary.apply(models)
        pairs = [(model, opened[ref].checkpoint) for model, ref in zip(models, refs, strict=True)]
        views = dict(zip(refs, make_views(pairs, refs.index(document.donor)), strict=True))
        assembly = assemble(document, views, seed=seed)
        findings += assembly.findings
        findings += _unused_averages(document, views)
        findings += _companions(document, opened, vocabulary)
        findings += lineage_findings(assembly.plan, models)
        findings += _losses(assembly.plan, models, views)
        giver = _giver(document, refs, views, assembly)
        yield Prepared(
            document,
            assembly.plan,
            assembly,
            refs,
            tuple(models),
            opened,
            giver,
            vocabulary,
            tuple(_waive(findings) if waive else findings),
        )


def _vocabulary(
    document: Document, refs: Sequence[ModelRef], opened: Mapping[ModelRef, Opened], findings: list[Finding]
) -> Vocabulary | None:
    request = document.tokenizer
    if request.source is None and request.chat_template is None:
        return None
    folders = {str(ref): opened[ref].checkpoint.folder for ref in refs}
    others = {str(ref): opened[ref].checkpoint.folder for ref in document.tokenizer_models if ref not in refs}
    base = str(document.base) if document.base else None
    try:
        vocabulary = plan_vocabulary(folders, base, request, others)
    except FindingsError as problem:
        findings += problem.findings
        return None
    findings += vocabulary.findings
    return vocabulary


def _companions(document: Document, opened: Mapping[ModelRef, Opened], vocabulary: Vocabulary | None) -> list[Finding]:
    """What configs and tokenizers say against merging these models."""
    whole = {opened[ref].label: opened[ref].checkpoint for ref in document.merged}
    sliced = any(s.layers for m in document.modules for part in m.slices for s in part.everyone)
    findings = architecture_findings(whole, layers=not sliced)
    if vocabulary is None or vocabulary.rows is None:
        found = tokenizer_findings({label: c.folder for label, c in whole.items() if c.has_config})
        lacking = [f for f in found if f.code == "tokenizer-missing"]
        # networks that read no text have none, and that is no news
        findings += [f for f in found if f not in lacking or len(lacking) < len(whole)]
    return findings


def _unused_averages(document: Document, views: Mapping[ModelRef, View]) -> list[Finding]:
    names = {name for view in views.values() for name in view.own}
    unused = [part for part in document.average if not any(part in name for name in names)]
    return [error("recipe-average", f"{part!r} of `average` is part of no tensor's name") for part in unused]


def _losses(plan: MergePlan, models: Sequence[Model], views: Mapping[ModelRef, View]) -> list[Finding]:
    """Where the output keeps fewer digits than what it is made from."""
    stored = {view.index: view.stored for view in views.values()}
    lost: dict[tuple[str, str], int] = {}
    for tensor in plan.tensors:
        sources = [*tensor.inputs, *([tensor.base] if tensor.base else [])]
        dtypes = {(stored[i.model].get(i.name) or models[i.model].tensors[i.name]).dtype for i in sources}
        best = max(dtypes, key=lambda d: _PRECISION.get(d, 0))
        if _PRECISION.get(best, 0) > _PRECISION.get(tensor.out_dtype, 99):
            lost[best, tensor.out_dtype] = lost.get((best, tensor.out_dtype), 0) + 1
    return [
        warning(
            "dtype-loss", f"{n} tensors stored as {best} are written as {out}", remedy="give out_dtype to keep them"
        )
        for (best, out), n in sorted(lost.items())
    ]


def _giver(
    document: Document, refs: Sequence[ModelRef], views: Mapping[ModelRef, View], assembly: Assembly
) -> ModelRef:
    """Who gives the config: the donor, unless it lacks tensors (a head) that another model has all of."""
    if assembly.layers:
        return document.donor
    names = {tensor.name for tensor in assembly.plan.tensors}
    return next((r for r in (document.donor, *refs) if names <= {*views[r].own, *views[r].tied}), document.donor)


def _waive(findings: Sequence[Finding]) -> list[Finding]:
    return [
        replace(f, severity="warning", message=f"{f.message}. Waived by --allow-crimes: {WAIVED[f.code]}", remedy="")
        if f.severity == "error" and f.code in WAIVED
        else f
        for f in findings
    ]
