"""Several models, each permuted to match one of them: the step before any merge of differently initialised models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunemerge.checkpoint.dtypes import FLOATS
from tunemerge.checkpoint.match import tensor_differences
from tunemerge.checkpoint.source import Model
from tunemerge.findings import Finding, error, refuse_errors
from tunemerge.merge.align.derive import derive_groups
from tunemerge.merge.align.groups import Group, check_groups
from tunemerge.merge.align.matching import Match, match
from tunemerge.merge.align.orders import moved
from tunemerge.merge.align.permuted import PermutedModel
from tunemerge.merge.align.similarity import inner_products


@dataclass(frozen=True)
class GroupReport:
    """Of one group: the cosine between both models' tensors before and after, and the share of units moved."""

    name: str
    units: int
    before: float
    after: float
    moved: float


@dataclass(frozen=True)
class AlignReport:
    """How one model was aligned to another. `before` and `after`: the cosine over all tensors of all groups."""

    model: str
    reference: str
    before: float
    after: float
    sweeps: int
    groups: tuple[GroupReport, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Alignment:
    """`models` in the order given, the reference as it was; one report for each of the others; `findings`: notes."""

    models: list[Model]
    reports: tuple[AlignReport, ...]
    findings: tuple[Finding, ...]


def align_models(
    models: Sequence[Model],
    reference: int = 0,
    groups: Sequence[Group] | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Alignment:
    """Permute every model to lie as near models[reference] as it can; each computes the same as before.

    `groups` None: derived from the reference's tensors and `config`, its config.json. Raises FindingsError, with
    everything that is wrong, where models differ in their tensors, groups don't fit or none can be derived.
    """
    target = models[reference]
    findings: tuple[Finding, ...] = ()
    if groups is None:
        derived = derive_groups(target.tensors, config or {}, target.label)
        groups, findings = derived.groups, derived.findings
    _refuse_misfits(models, reference, groups)
    aligned: list[Model] = []
    reports = []
    for number, model in enumerate(models):
        if number == reference:
            aligned.append(model)
            continue
        found = match(target, model, groups, seed)
        aligned.append(PermutedModel(model, found.orders))
        reports.append(_report(target, model, groups, found))
    return Alignment(aligned, tuple(reports), findings)


def _refuse_misfits(models: Sequence[Model], reference: int, groups: Sequence[Group]) -> None:
    target = models[reference]
    problems = check_groups(groups, target.tensors, {})
    touched = {axis.tensor for group in groups for axis in group.axes}
    wanted = {name: info for name, info in target.tensors.items() if name in touched}
    for number, model in enumerate(models):
        if number != reference:
            label = f"{model.label} (model {number + 1})"
            theirs = {name: info for name, info in model.tensors.items() if name in wanted}
            problems += tensor_differences({target.label: wanted, label: theirs})
            problems += [
                error("align-dtype", f"stored as {info.dtype}, which can't be compared", f"{label}: {name}")
                for name, info in theirs.items()
                if info.dtype not in FLOATS
            ]
    refuse_errors(problems)


def _report(target: Model, model: Model, groups: Sequence[Group], found: Match) -> AlignReport:
    touched = sorted({axis.tensor for group in groups for axis in group.axes})
    before = inner_products(target, model, touched)
    after = inner_products(target, PermutedModel(model, found.orders), touched)
    rows = []
    for group in groups:
        names = sorted({axis.tensor for axis in group.axes})
        share = moved(found.orders, group)
        rows.append(GroupReport(group.name, group.units, _cosine(before, names), _cosine(after, names), share))
    return AlignReport(
        model=model.label,
        reference=target.label,
        before=_cosine(before, touched),
        after=_cosine(after, touched),
        sweeps=found.sweeps,
        groups=tuple(rows),
    )


def _cosine(products: Mapping[str, tuple[float, float, float]], names: Sequence[str]) -> float:
    """Of the tensors taken together; 0 where one side is all zero."""
    both, ours, theirs = (sum(products[name][i] for name in names) for i in range(3))
    return both / math.sqrt(ours * theirs) if ours and theirs else 0.0
