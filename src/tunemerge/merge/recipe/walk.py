"""Goes through a document and says, for every tensor of the output, what is to be merged into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tunemerge.checkpoint.layout import Stack, find_layout
from tunemerge.checkpoint.naming import before_layers
from tunemerge.findings import Finding, error
from tunemerge.merge.recipe.parts import Document, Member, ModelRef, Module, Slice
from tunemerge.merge.recipe.scope import claim
from tunemerge.merge.recipe.views import View

Origin = tuple[ModelRef, int]
"""A layer of a model: where a layer of the output comes from."""


@dataclass(frozen=True)
class Want:
    """A tensor of the output. `theirs` are the names of its tensors for everyone of the slice (None: has no such).

    `depth` is the t of gradients: 0 for a slice's first layer, 1 for its last, 0 outside of all layers.
    """

    name: str
    theirs: tuple[str | None, ...]
    part: Slice
    module: Module
    depth: float


@dataclass
class Walk:
    """`wants` in no order, each name once; `layers` are the origins of the output's layers, by the prefix of their
    stack, where layers were sliced. `rest` are tensors that belong to no module."""

    wants: list[Want] = field(default_factory=list)
    layers: dict[str, tuple[Origin, ...]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def walk(document: Document, views: Mapping[ModelRef, View]) -> Walk:
    """Nothing is read. Findings where layers or modules that the document names don't exist."""
    used = [views[s.model] for m in document.modules for part in m.slices for s in part.everyone]
    names = sorted({name for view in used for name in view.own})
    out = Walk()
    claims, out.findings = claim([m.name for m in document.modules], names)
    for module, mine in zip(document.modules, claims, strict=True):
        if any(s.layers is not None for part in module.slices for s in part.sources):
            _stacked(module, mine, views, out)
        else:
            _whole(module, mine, views, out)
    out.rest = [name for name in names if not any(name in mine for mine in claims)]
    return out


def _whole(module: Module, names: set[str], views: Mapping[ModelRef, View], out: Walk) -> None:
    (part,) = module.slices
    places = find_layout(sorted({n for s in part.everyone for n in views[s.model].own})).places
    for name in sorted(names):
        place = places.get(name)
        depth = place.stack.depth(place.number) if place else 0.0
        theirs = tuple(name if views[s.model].find(name) else None for s in part.everyone)
        out.wants.append(Want(name, theirs, part, module, depth))


def _stacked(module: Module, names: set[str], views: Mapping[ModelRef, View], out: Walk) -> None:
    """Layers are renumbered; what comes before them is from the first slice's models, what follows from the last's."""
    stack = _stack(views[module.slices[0].everyone[0].model], names, out)
    if stack is None or not _ranges_exist(module, stack, views, out):
        return
    origins: list[Origin] = []
    once = _first_only(stack.prefix, [views[s.model] for part in module.slices for s in part.everyone])
    for part in module.slices:
        first, end = _range(part.sources[0])
        for offset in range(end - first):
            depth = offset / (end - first - 1) if end - first > 1 else 1.0
            out.wants += _layer(module, part, stack, once, offset, depth, len(origins), views)
            origins.append((part.sources[0].model, first + offset))
    out.layers[stack.prefix] = tuple(origins)
    for part, before in ((module.slices[0], True), (module.slices[-1], False)):
        outside = {n for s in part.everyone for n in views[s.model].layout.outside if n in names}
        outside |= {n for s in part.everyone for n in views[s.model].tied if n in names}
        chosen = {n for n in outside if before_layers(n) is before} | {stack.name(0, r) for r in once if before}
        for name in sorted(chosen):
            theirs = tuple(name if views[s.model].find(name) else None for s in part.everyone)
            out.wants.append(Want(name, theirs, part, module, 0.0))


def _first_only(prefix: str, views: Sequence[View]) -> set[str]:
    """What the first layer of every model has on top of all others: no part of a layer, but something that the stack
    shares and keeps there (T5's relative positions)."""
    found: list[set[str]] = []
    for view in views:
        first, *others = (set(rests) for _, rests in sorted(view.layout.layers[prefix].items()))
        found.append(first - set().union(*others) if others and all(first >= other for other in others) else set())
    return set.intersection(*found)


def _layer(
    module: Module,
    part: Slice,
    stack: Stack,
    once: Set[str],
    offset: int,
    depth: float,
    number: int,
    views: Mapping[ModelRef, View],
) -> list[Want]:
    numbers = [_range(source)[0] + offset for source in part.everyone]
    layers = [views[s.model].layout.layers[stack.prefix][at] for s, at in zip(part.everyone, numbers, strict=True)]
    rests = [set(layer) - once for layer in layers]
    return [
        Want(
            stack.name(number, rest),
            tuple(stack.name(at, rest) if rest in own else None for at, own in zip(numbers, rests, strict=True)),
            part,
            module,
            depth,
        )
        for rest in sorted(set().union(*rests))
    ]


def _range(source: Member) -> tuple[int, int]:
    assert source.layers is not None
    return source.layers


def _stack(donor: View, names: set[str], out: Walk) -> Stack | None:
    stacks = {p.stack for name, p in donor.layout.places.items() if p is not None and name in names}
    several = sorted(stack.prefix for stack in stacks)
    if len(stacks) == 1 and next(iter(stacks)).whole:
        return next(iter(stacks))
    fix = "list whole models under `models`"
    if len(stacks) > 1:
        text, fix = f"has several stacks of layers: {', '.join(several)}", "name the one to be sliced under `modules`"
    elif stacks:
        text = f"the numbers of its layers ({several[0]}) have gaps, so it can't be sliced"
    else:
        text = "its tensors have no numbered layers, so it can't be sliced"
    out.findings.append(error("recipe-layers", text, donor.label, fix))
    return None


def _ranges_exist(module: Module, stack: Stack, views: Mapping[ModelRef, View], out: Walk) -> bool:
    bad: list[Finding] = []
    for source in (s for part in module.slices for s in part.everyone):
        view = views[source.model]
        found = view.layout.stacks.get(stack.prefix)
        count = len(found.numbers) if found else 0
        if _range(source)[1] > count or (found and not found.whole):
            text = f"layer_range {list(_range(source))} asks for more than its {count} layers ({stack.prefix})"
            bad.append(error("recipe-layers", text, view.label, f"the end of a range is at most {count}"))
    out.findings += dict.fromkeys(bad)
    return not bad


def sources_of(want: Want, views: Mapping[ModelRef, View]) -> Sequence[tuple[Member, View, str | None]]:
    """Everyone of the slice with its view and the name under which the view finds the tensor."""
    return [(s, views[s.model], n) for s, n in zip(want.part.everyone, want.theirs, strict=True)]
