"""One document with its models at hand: the plan, and everything that speaks against it. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunemerge.checkpoint.architecture import architecture_findings
from tunemerge.checkpoint.dtypes import Array
from tunemerge.checkpoint.heads import heads_findings
from tunemerge.checkpoint.preprocessing import preprocessing_findings
from tunemerge.checkpoint.source import ArrayModel, Model
from tunemerge.checkpoint.tokenizers import tokenizer_findings
from tunemerge.errors import UsageError
from tunemerge.findings import Finding, FindingsError, error, note, warning
from tunemerge.merge.interrupt import interruptible
from tunemerge.merge.lora.adapted import AdaptedModel
from tunemerge.merge.method import METHODS
from tunemerge.merge.plan import Input, MergePlan, TensorPlan
from tunemerge.merge.recipe.assemble import Assembly, assemble
from tunemerge.merge.recipe.inputs import Found, Opened, join, reading
from tunemerge.merge.recipe.lineage import lineage_findings
from tunemerge.merge.recipe.parts import Document, ModelRef, Place
from tunemerge.merge.recipe.views import View, make_views
from tunemerge.merge.vocabulary.plan import plan_vocabulary
from tunemerge.merge.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tunemerge.merge.align.align import Alignment

WAIVED = {
    "tensor-names": "each tensor is merged among the models that have it",
    "architecture": "configs of different kinds",
    "architecture-size": "configs of different sizes",
    "tokenizers-differ": "rows of embeddings that mean different tokens are merged with each other",
}
"""What --allow-crimes lets pass, and what that means."""

_UNION = "`tokenizer: {source: union}` (or base, or a model) brings every row to its token before the merge"

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
    alignment: Alignment | None
    findings: tuple[Finding, ...]


@contextmanager
def prepared(
    document: Document, inputs: Mapping[Place, Found], *, seed: int, waive: bool, look: bool = False
) -> Iterator[Prepared]:
    """Plan a document whose places are all in `inputs`. Findings are not raised.

    `look`: only to look at the plan; what needs all weights (an alignment) is left out.
    """
    opened = join(document.models, inputs)
    refs = tuple(dict.fromkeys([*document.merged, document.donor]))
    findings: list[Finding] = []
    with reading({ref: opened[ref] for ref in refs}) as readable:
        models = [readable[ref] for ref in refs]
        findings += [f for model in models if isinstance(model, AdaptedModel) for f in model.warnings]
        alignment = None if look else _aligned(document, refs, models, inputs, opened, seed, findings)
        models = alignment.models if alignment else models
        vocabulary, models = _vocabulary(document, refs, models, opened, findings)
        below = [opened[ref].checkpoint for ref in refs]
        seen = [(model, one.tensors, one.config) for model, one in zip(models, below, strict=True)]
        views = dict(zip(refs, make_views(seen, refs.index(document.donor)), strict=True))
        assembly = assemble(document, views, seed=seed)
        findings += assembly.findings
        findings += _unused_averages(document, views)
        findings += companion_findings(document, opened)
        if alignment is not None or document.align is None:
            absent = [i for i, ref in enumerate(refs) if not opened[ref].checkpoint.files]
            findings += lineage_findings(assembly.plan, models, absent)
        findings += _losses(assembly.plan, models, views)
        yield Prepared(
            document=document,
            plan=assembly.plan,
            assembly=assembly,
            refs=refs,
            models=tuple(models),
            opened=opened,
            giver=_giver(document, refs, views, assembly),
            vocabulary=vocabulary,
            alignment=alignment,
            findings=tuple(_waive(findings) if waive else findings),
        )


def with_settled(ready: Prepared, settled: Mapping[str, Array]) -> Prepared:
    """The same with these tensors of the output as they are given, whatever the models have."""
    if not settled:
        return ready
    given = len(ready.models)
    values = METHODS["linear"].resolve({}, 1)

    def plan(tensor: TensorPlan) -> TensorPlan:
        if tensor.name not in settled:
            return tensor
        source = (Input(given, tensor.name),)
        return replace(tensor, method=METHODS["linear"], inputs=source, base=None, values=values, factor=1.0)

    tensors = tuple(plan(tensor) for tensor in ready.plan.tensors)
    models = (*ready.models, ArrayModel("heads", settled))
    merged = replace(ready.plan, models=(*ready.plan.models, "heads"), tensors=tensors)
    return replace(ready, plan=merged, models=models)


def _aligned(
    document: Document,
    refs: Sequence[ModelRef],
    models: Sequence[Model],
    inputs: Mapping[Place, Found],
    opened: Mapping[ModelRef, Opened],
    seed: int,
    findings: list[Finding],
) -> Alignment | None:
    """All models permuted to match the donor, where the recipe asks for it."""
    if document.align is None:
        return None
    request, donor = document.align, refs.index(document.donor)
    if document.groups is not None:
        request = replace(request, groups=inputs[document.groups].path)
    try:
        config = opened[document.donor].checkpoint.config
        found = interruptible(lambda: request.run(models, donor, config=config, seed=seed))
    except FindingsError as problem:
        findings += problem.findings
        return None
    findings += found.findings
    for report in found.reports:
        text = f"aligned with {report.reference}: cosine of their weights {report.before:.3f}, now {report.after:.3f}"
        findings.append(note("aligned", text, report.model))
    return found


def _vocabulary(
    document: Document,
    refs: Sequence[ModelRef],
    models: list[Model],
    opened: Mapping[ModelRef, Opened],
    findings: list[Finding],
) -> tuple[Vocabulary | None, list[Model]]:
    """The output's vocabulary where the recipe asks for one, and the models seen through it."""
    request = document.tokenizer
    if request.source is None and request.chat_template is None:
        return None, models
    folders = {str(ref): opened[ref].checkpoint.folder for ref in refs}
    others = {str(ref): opened[ref].checkpoint.folder for ref in document.tokenizer_models if ref not in refs}
    try:
        vocabulary = plan_vocabulary(folders, str(document.base) if document.base else None, request, others)
        findings += vocabulary.findings
        return vocabulary, vocabulary.apply(models)
    except FindingsError as problem:
        findings += problem.findings
    except UsageError as problem:
        findings.append(error("vocabulary", str(problem)))
    return None, models


def companion_findings(document: Document, opened: Mapping[ModelRef, Opened]) -> list[Finding]:
    """What configs and tokenizers say against merging those of the document's models that are in `opened`."""
    whole = {opened[ref].label: opened[ref].checkpoint for ref in document.merged if ref in opened}
    sliced = any(s.layers for m in document.modules for part in m.slices for s in part.everyone)
    findings = architecture_findings(whole, layers=not sliced)
    folders = {label: c.folder for label, c in whole.items() if c.has_config}
    findings += preprocessing_findings(folders)
    tuned = [opened[ref].label for ref in document.merged if ref in opened and ref != document.base]
    findings += heads_findings({label: folders[label] for label in tuned if label in folders})
    if document.tokenizer.source is None:
        found = tokenizer_findings(folders)
        lacking = [f for f in found if f.code == "tokenizer-missing"]
        # networks that read no text have none, and that is no news
        kept = [f for f in found if f not in lacking or len(lacking) < len(whole)]
        findings += [replace(f, remedy=_UNION) if f.code == "tokenizers-differ" else f for f in kept]
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
            "dtype-loss",
            f"{n} tensors stored as {best} are written as {out}",
            remedy="a wider out_dtype keeps all digits",
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
    return next((r for r in (document.donor, *refs) if names <= views[r].every.keys()), document.donor)


def _waive(findings: Sequence[Finding]) -> list[Finding]:
    return [
        replace(f, severity="warning", message=f"{f.message}. Waived by --allow-crimes: {WAIVED[f.code]}", remedy="")
        if f.severity == "error" and f.code in WAIVED
        else f
        for f in findings
    ]
