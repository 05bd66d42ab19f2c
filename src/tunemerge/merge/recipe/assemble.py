"""From a document and the headers of its models to the plan of a merge: one entry for every tensor of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunemerge.checkpoint.dtypes import INTEGERS
from tunemerge.checkpoint.header import TensorInfo
from tunemerge.checkpoint.naming import is_buffer, is_counter, is_word_table, may_be_word_head
from tunemerge.findings import Finding, FindingsError, error, note
from tunemerge.merge.method import METHODS, Method
from tunemerge.merge.parameters import Values
from tunemerge.merge.plan import Input, MergePlan, Resolver, TensorPlan, average_weights, few, unusable
from tunemerge.merge.recipe.parts import Document, Member, ModelRef
from tunemerge.merge.recipe.values import NoValueError, parameters_for
from tunemerge.merge.recipe.views import View
from tunemerge.merge.recipe.walk import Origin, Want, sources_of, walk
from tunemerge.registry import listed


@dataclass(frozen=True)
class Assembly:
    """The `plan` of what can be planned, and the `findings` that speak against it.

    `layers` are the origins of the output's layers, by the prefix of their stack, where a recipe slices them, and
    `stacks` how many layers the donor has there. `untied`: the output has a head of its own, though an input shares it
    with the embedding.
    """

    plan: MergePlan
    findings: tuple[Finding, ...]
    layers: Mapping[str, tuple[Origin, ...]]
    stacks: Mapping[str, int]
    untied: bool


def assemble(document: Document, views: Mapping[ModelRef, View], *, seed: int) -> Assembly:
    """Plan every tensor from headers alone.

    Tensors that only some models have are findings (`tensor-names`), and are planned from the models that have them,
    for callers that go on all the same.
    """
    walked = walk(document, views)
    entries = _Entries(document, views)
    for want in walked.wants:
        entries.add(want)
    entries.copy(walked.rest)
    labels = tuple(view.label for view in sorted(views.values(), key=lambda view: view.index))
    tensors = tuple(sorted(entries.tensors, key=lambda t: t.name))
    findings = (*walked.findings, *few(entries.findings), *entries.summaries())
    known = views[document.donor].layout.stacks
    stacks = {prefix: len(known[prefix].numbers) if prefix in known else 0 for prefix in walked.layers}
    return Assembly(MergePlan(labels, tensors, seed), findings, walked.layers, stacks, entries.untied)


@dataclass
class _Entries:
    document: Document
    views: Mapping[ModelRef, View]
    tensors: list[TensorPlan] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    untied: bool = False
    total: int = 0
    missing: dict[str, list[str]] = field(default_factory=dict)
    shapes: dict[str, list[tuple[str, TensorInfo, TensorInfo]]] = field(default_factory=dict)
    resolvers: dict[int, Resolver] = field(default_factory=dict)

    def add(self, want: Want) -> None:
        self.total += 1
        everyone = sources_of(want, self.views)
        have = [(s, view, name, info) for s, view, name in everyone if name and (info := view.info(name))]
        if not have:
            return
        averaged = any(part in want.name for part in self.document.average)
        buffer = is_buffer(want.name, have[0][3].dtype)
        if buffer and all(s is want.part.base for s, _, _, _ in have):
            return  # the models that are merged come from a class that computes it
        for source, view, name in everyone:
            needed = not buffer and not (averaged and source is want.part.base)
            if needed and (name is None or view.info(name) is None):
                self.missing.setdefault(view.label, []).append(want.name)
        under = next(((view, name) for s, view, name, _ in have if s is want.part.base), None)
        _, first, theirs, info = next(h for h in have if under is None or h[0] is want.part.base)
        stored = first.dtype(theirs)
        if not self._fit(want.name, [(view, i) for _, view, _, i in have], info):
            return
        self.untied |= any(view.own.get(name) not in view.stored for _, view, name, _ in have)
        experts = [(s, view, name) for s, view, name, _ in have if s is not want.part.base]
        base = _input(*under) if under else None
        inputs = tuple(_input(view, name) for _, view, name in experts)
        if info.dtype in INTEGERS:
            every = (*([base] if base else []), *inputs)
            every = every[:1] if is_counter(want.name) else every
            self._put(want.name, info, stored, METHODS["linear"], every, None, {}, copy=True)
        elif not inputs:
            self._put(want.name, info, stored, METHODS["linear"], (_input(first, theirs),), None, _ALONE)
        elif (values := self._values(want, experts)) is not None:
            lacks_base = want.part.base is not None and base is None
            if averaged or lacks_base or self.document.method.refuses(len(inputs), base is not None):
                shares = {"weight": average_weights(values, len(inputs)), "normalize": True}
                self._put(want.name, info, stored, METHODS["linear"], inputs, None, shares)
            else:
                factor = self.document.lines.factor(want.depth) if self.document.lines and base else 1.0
                self._put(want.name, info, stored, self.document.method, inputs, base, values, factor=factor)

    def copy(self, rest: Sequence[str]) -> None:
        """Tensors of no module: as they are in the donor, or the first model that has them."""
        order = [self.views[self.document.donor], *self.views.values()]
        for name in rest:
            view = next(view for view in order if name in view.own)
            info = view.tensors[view.own[name]]
            copy = info.dtype in INTEGERS
            values: Values = {} if copy else _ALONE
            self._put(name, info, view.dtype(name), METHODS["linear"], (_input(view, name),), None, values, copy)
        if rest:
            text = f"{len(rest)} tensors belong to no module and are copied ({listed(rest, 3)})"
            fix = "to merge them, add a module called `default`: it takes what no other one claims"
            self.findings.append(note("recipe-module", text, order[0].label, fix))

    def _put(
        self,
        name: str,
        info: TensorInfo,
        stored: str,
        method: Method,
        inputs: tuple[Input, ...],
        base: Input | None,
        values: Values,
        copy: bool = False,
        factor: float = 1.0,
    ) -> None:
        kept = stored if copy else self.document.out_dtype or stored
        self.tensors.append(TensorPlan(name, info.shape, kept, method, inputs, base, values, copy, factor))

    def _fit(self, name: str, have: Sequence[tuple[View, TensorInfo]], info: TensorInfo) -> bool:
        """Whether everyone's tensor has the shape of `info` and a usable dtype; what does not is noted."""
        bad = unusable(name, [i for _, i in have])
        if bad:
            self.findings.append(bad)
        others = [(view, i) for view, i in have if i.shape != info.shape]
        for view, i in others:
            self.shapes.setdefault(view.label, []).append((name, i, info))
        return not bad and not others

    def _values(self, want: Want, experts: Sequence[tuple[Member, View, str]]) -> Values | None:
        levels = (want.part.settings, want.module.settings, self.document.settings)
        own = [(s.settings, name) for s, _, name in experts]
        try:
            given = parameters_for(self.document.method, own, levels, want.name, want.depth)
            resolver = self.resolvers.setdefault(len(own), Resolver(self.document.method, len(own)))
            return resolver(given)
        except NoValueError as lacking:
            whose = f" of {experts[lacking.model][0].model}" if lacking.model is not None else ""
            text = f"no {lacking.parameter}{whose} applies to tensor {want.name!r}"
            self.findings.append(error("recipe-value", text, remedy="add an entry without a filter"))
        except FindingsError as wrong:
            self.findings += [error(f.code, f.message, want.name, f.remedy) for f in wrong.findings]
        return None

    def summaries(self) -> list[Finding]:
        """What single models lack, or have in other shapes: one finding a model."""
        fix = "merge models of one architecture saved with the same class; `average: [PART OF THE NAMES]` merges what "
        fix += "only the base lacks; --allow-crimes merges each tensor among the models that have it"
        out = [
            error(
                "tensor-names", f"lacks {len(n)} of the {self.total} tensors to be merged ({listed(n, 3)})", label, fix
            )
            for label, n in self.missing.items()
        ]
        for label, differ in self.shapes.items():
            shown = [f"{name} {list(i.shape)} instead of {list(info.shape)}" for name, i, info in differ]
            text = f"{len(differ)} tensors have other shapes than in the others: {listed(shown, 3)}"
            rows = all(i.shape[1:] == info.shape[1:] for _, i, info in differ)
            words = rows and all(is_word_table(name) or may_be_word_head(name) for name, _, _ in differ)
            fix = "merge models of one architecture and size"
            if words:
                fix = "the vocabularies differ: give `tokenizer: {source: union}`, or `tokenizer: {source: base}`"
            out.append(error("tensor-shapes", text, label, fix))
        return out


_ALONE: Values = {"weight": [1.0], "normalize": True}
"""What linear copies with."""


def _input(view: View, name: str) -> Input:
    own = view.find(name)
    assert own is not None
    return Input(view.index, own)
