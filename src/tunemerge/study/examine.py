"""Everything that is wrong with a study or worth knowing, found in one go, and the plan where nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunemerge.compat import check_models
from tunemerge.errors import TunemergeError
from tunemerge.findings import Finding, FindingsError, error
from tunemerge.graph.step import Leaf
from tunemerge.merge.method import METHODS
from tunemerge.store.artifacts import Store
from tunemerge.study.advice import weak_evidence
from tunemerge.study.config import StudyConfig
from tunemerge.study.estimate import enough_disk, enough_memory
from tunemerge.study.heads import batch_norm_findings
from tunemerge.study.incumbent import read_incumbent
from tunemerge.study.leaks import seen_by_models
from tunemerge.study.names import is_registered_name, plugin_findings, unknown_names
from tunemerge.study.places import Places
from tunemerge.study.plan import StudyPlan, make_plan
from tunemerge.study.preview import preview
from tunemerge.study.rows import StudyRows, read_rows
from tunemerge.study.setting import check_heads, key_of, locate_models, unfit_models
from tunemerge.study.standins import models_with_stand_ins, rows_with_stand_ins
from tunemerge.study.sunk import read_records
from tunemerge.tune.adapter import lora_findings
from tunemerge.tune.class_weights import class_weight_findings
from tunemerge.tune.search import missing_optuna
from tunemerge.tune.trackers import missing_packages


@dataclass(frozen=True)
class LeftOut:
    """What a study file has and its config lacks, because its keys are wrong: `names` of tasks and models; `arms`
    says whether arms are made of something that is left out."""

    names: frozenset[str] = frozenset()
    arms: bool = False


def examine(
    config: StudyConfig, folder: Path, store: Store, places: Places, left_out: LeftOut | None = None
) -> tuple[StudyPlan | None, list[Finding]]:
    """The plan, None where a finding is an error, and all findings. Nothing is written.

    A check whose own subject can be had is done, whatever else is wrong: with stand-ins for what can't be read.
    """
    left_out = left_out or LeftOut()
    plugins = plugin_findings(config, folder)
    names = unknown_names(config, left_out.names)
    rows, problems = read_rows(config, folder, store.root)
    models, found = locate_models(config, folder, rows)
    # A name that nobody knows may be one of a plug-in that can't be loaded: that is said once.
    found += plugins + [n for n in names if not (_errors(plugins) and is_registered_name(n))] + _fit_together(models)
    if len(rows.specs) > 1:  # then each model has a head for its own task
        found = [f for f in found if f.code != "labels-differ"]
    found += missing_packages(config.trackers) + _adapter_findings(config, models)
    found += seen_by_models(models, rows.scored, {name: key_of(name) for name in models})
    found += missing_optuna() if config.tuning_search else []
    found += problems + check_heads(models, rows) + unfit_models(config, models, rows.spec)
    found += batch_norm_findings({key_of(name): leaf for name, leaf in models.items()})
    found += weak_evidence(config, rows) + class_weight_findings(config.tuning, rows.specs)
    incumbent, problems = read_incumbent(config, rows, folder)
    found += problems
    records, problems = read_records(config, models)
    found += problems
    plan = None
    if not _errors(found):
        found += preview(config, rows, models)
    if not _errors(found):
        try:
            plan = make_plan(config, rows, models.get("base"), _pool(models), records)
            plan = replace(plan, incumbent=incumbent)
            found += [*plan.findings, *enough_disk(plan, store), *enough_memory(plan)]
        except FindingsError as e:
            found += e.findings
    elif not left_out.arms:
        found += _of_the_arms(config, rows, models, names)
    found = places.placed(found)
    return (None if plan is None or _errors(found) else plan.with_findings(found)), found


def _fit_together(models: Mapping[str, Leaf]) -> list[Finding]:
    """The checks of the models' files, each finding under the key that names the model."""
    base = models.get("base")
    found = check_models({n: leaf.path for n, leaf in _pool(models).items()}, base.path if base else None)
    return [replace(f, where=key_of(f.where)) if f.where in models else f for f in found]


def _adapter_findings(config: StudyConfig, models: Mapping[str, Leaf]) -> list[Finding]:
    """What speaks against the adapter that tuning asks for; models are of one architecture, so each thing once."""
    found: dict[str, Finding] = {}
    if config.adapters == "keep" and config.tuning.method != "lora":
        text = f"adapters: keep, and tuning by {config.tuning.method} leaves no adapter that could be merged"
        found["keep"] = error("no-adapters", text, "adapters", "tuning: {method: lora}, or leave `adapters` out")
    for leaf in models.values():
        try:
            found |= {f.code + f.where: f for f in lora_findings(config.tuning, leaf.path)}
        except TunemergeError:
            continue  # reported by the check of the files
    return list(found.values())


def _of_the_arms(
    config: StudyConfig, rows: StudyRows, models: Mapping[str, Leaf], names: Iterable[Finding]
) -> list[Finding]:
    """What a plan would say of orders and budgets, where rows or models can't be had."""
    methods = [m for m in config.methods if m in METHODS]
    wrong = {f.where.split(".")[1] for f in names if f.where.startswith("strategies.")}
    strategies = [s for i, s in enumerate(config.strategies or []) if str(i) not in wrong]
    strange = [f for f in names if not f.where.startswith(("strategies.", "methods.", "incumbent."))]
    if (
        strange
        or not methods
        or (wrong and not strategies)
        or not any(t.role in ("task", "target") for t in rows.tasks.values())
    ):
        return []
    known = config.model_copy(update={"methods": methods, "strategies": strategies or config.strategies})
    leaves = models_with_stand_ins(config, models)
    try:
        return list(make_plan(known, rows_with_stand_ins(rows, known), leaves.get("base"), _pool(leaves), {}).findings)
    except FindingsError as e:
        return list(e.findings)
    except TunemergeError:  # a model that is not there would have to be read
        return []


def _pool(models: Mapping[str, Leaf]) -> dict[str, Leaf]:
    return {name: leaf for name, leaf in models.items() if name != "base"}


def _errors(findings: Iterable[Finding]) -> bool:
    return any(f.severity == "error" for f in findings)
